"""Learn in the null space of earlier inputs, estimated from small singular values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import Field

from ness_cli.settings.base import AFTER_TRAINING, ANYTHING, only_with
from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.sections import TrainSettings

_DEFAULT_EPS1 = 1e-3
_WITH_EPS1 = only_with(threshold=("nuclear", "frobenius", "rms", "energy")) | AFTER_TRAINING


class Options(MethodOptions):
    """Options of the method ``ness``."""

    eps1: float | None = Field(default=None, gt=0, json_schema_extra=_WITH_EPS1)
    """Where the threshold is, in the terms of the rule below; 1e-3 when absent for ``nuclear`` and
    ``frobenius``, ``rms`` and ``energy`` need one."""
    layer_eps1: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, json_schema_extra=_WITH_EPS1
    )
    """Another ``eps1`` for some layers, by name, ``*`` allowed; the last that matches counts."""
    threshold: Literal["nuclear", "frobenius", "rms", "energy", "knee"] = Field(
        default="nuclear", json_schema_extra=AFTER_TRAINING
    )
    """Directions with a singular value of at most tau are learned in. tau is ``eps1`` times the sum
    of the singular values (``nuclear``, as in every published run), their Frobenius norm (as the
    paper prints it) or their root mean square (``rms``); the singular value below which lies
    ``eps1`` of the ``energy``; or where the eigenvalues bend most (``knee``, without ``eps1``)."""
    scaling: Literal["hard", "bounded", "conceptor", "none"] = Field(
        default="hard", json_schema_extra=AFTER_TRAINING
    )
    """``hard`` closes the directions above the threshold, as published. ``bounded`` slows them down
    to tau over their singular value, which keeps the same bound; ``conceptor`` slows every
    direction, as CODE-CL does: by 1 / (1 + (sigma / tau)^2). ``none`` slows nothing, and needs a
    ``budget`` to protect anything."""
    gamma: float = Field(
        default=1.0, ge=1, json_schema_extra=only_with(scaling="bounded") | AFTER_TRAINING
    )
    """``bounded``: exponent of the slowing; the larger, the nearer to the hard cut."""
    max_output_change: float | None = Field(default=None, gt=0, json_schema_extra=AFTER_TRAINING)
    """Promise that no later task changes a layer's output on an earlier input, that its covariance
    holds, by more than the square root of this: after every epoch the singular values of V are
    clipped to sqrt(max_output_change) / tau. Off when absent; nothing is promised then."""
    anchor: float = Field(default=0.0, ge=0, json_schema_extra=AFTER_TRAINING)
    """Decay toward the previous weights along slowed and closed directions only, per step and in
    units of the learning rate: the more a direction is slowed, the stronger. 0 for none."""
    budget: Annotated[float, Field(ge=0)] | Literal["auto"] | None = Field(
        default=None, json_schema_extra=AFTER_TRAINING
    )
    """Limit on the root-mean-square relative change of every layer's outputs on earlier inputs, for
    one task: 0.1 allows a tenth. It is exact, from the covariance, and needs no data; the update is
    moved to the nearest one within it. ``auto`` starts from 0.1, gives later tasks a share of what
    the updates so far have left of 0.3 for all of them, and keeps of every update what validation
    images say it needs. Off when absent."""
    budget_over: Literal["task", "pool"] = Field(
        default="task", json_schema_extra=only_with(budget=ANYTHING) | AFTER_TRAINING
    )
    """Whose outputs: ``task`` allows every earlier task of average energy that much, so the limit
    on all together shrinks as tasks are added; ``pool`` is the limit on all together."""
    layer_budget: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={}, json_schema_extra=AFTER_TRAINING
    )
    """Another ``budget`` for some layers, by name, ``*`` allowed; the last that matches counts."""
    budget_steps: int | None = Field(default=None, ge=1, json_schema_extra=AFTER_TRAINING)
    """Apply the budget after every so many steps, besides at the end; once an epoch when absent."""
    mix: int = Field(default=0, ge=0)
    """Directions of every layer, at most, that a task from the second on mixes by a trained matrix
    of its own, ``[mix, mix]``: those that earlier inputs and its own both use. It starts at the
    identity, only its task uses it, and the task must be known. 0 for none; CODE-CL has 80."""
    mix_by: Literal["product", "restricted"] = Field(
        default="product", json_schema_extra=AFTER_TRAINING
    )
    """Which directions: the leading ones of C_new^(1/2) C_old C_new^(1/2), in which old and new
    inputs weigh alike (``product``), or of C_old within the directions that hold 95 % of the new
    inputs' energy (``restricted``)."""
    mix_samples: int = Field(default=500, ge=1, json_schema_extra=AFTER_TRAINING)
    """Training images of the new task, passed through the network before its training, that the
    directions are chosen from."""
    covariance: Literal["accumulate", "recompute"] = Field(
        default="accumulate", json_schema_extra=AFTER_TRAINING
    )
    """``accumulate`` adds each task's inputs once and keeps no data. ``recompute`` passes all
    earlier training data through the current network after every task, as the published runs."""
    form: Literal["auto", "projected", "factored"] = "auto"
    """How W = W_prev + (U V)^T is trained: by projecting the dense gradient (sgd), or by training V
    itself (adam). ``auto`` chooses by optimiser."""

    @property
    def variant(self) -> str:
        """What departs from the published hard cut: ``bounded``, ``bounded budget``."""
        departures = {
            self.scaling: self.scaling != "hard",
            "auto budget" if self.budget == "auto" else "budget": self.budget is not None,
            "anchor": self.anchor > 0,
            "mix": self.mix > 0,
            "recompute": self.covariance == "recompute",
        }
        return " ".join(word for word, holds in departures.items() if holds)

    def uses_past_data(self, step: str) -> bool:
        """Return ``True`` for building when covariances are recomputed."""
        return step == "build" and self.covariance == "recompute"

    def keeps(self) -> str:
        """Return the matrices of every layer."""
        mixing = ", matrices of every task" if self.mix else ""
        return f"a covariance and a basis of every layer{mixing}"

    def needs_task(self) -> bool:
        """Return whether tasks mix directions, each in its own way."""
        return self.mix > 0

    def notes(self) -> tuple[str, ...]:
        """Return that old data is passed through the network again, or nothing is protected."""
        found = []
        if self.covariance == "recompute":
            found.append("covariances are recomputed from the stored data of all tasks seen")
        if self.mix:
            found.append("every task mixes directions for itself: layers need to know the task")
        if self.scaling == "none" and self.budget is None:
            found.append("scaling=none without a budget protects nothing")
        return tuple(found)

    def problems(self, train: TrainSettings) -> tuple[str, ...]:
        """Return that a rule needs an ``eps1``, or Adam the factored form.

        Adam is not rotation invariant: its coordinates must be those of V.
        """
        found = []
        if train.is_adaptive and self.form == "projected":
            found.append("methods.ness.form: adam needs the factored form; use auto or factored")
        if train.is_adaptive and self.anchor:
            found.append("methods.ness.anchor: cannot be used with adam; set it to 0, or use sgd")
        if self.layer_budget and self.budget is None:
            found.append(
                "methods.ness.layer_budget: needs methods.ness.budget for the other layers"
            )
        if self.layer_budget and self.budget == "auto":
            found.append("methods.ness.layer_budget: budget=auto chooses for every layer; drop it")
        if self.budget_steps is not None and self.budget is None:
            found.append("methods.ness.budget_steps: needs methods.ness.budget")
        if self.mix and self.covariance == "recompute":
            found.append(
                "methods.ness.mix: needs the inputs that each task mixed; set"
                " methods.ness.covariance=accumulate"
            )
        if self.threshold in ("rms", "energy") and self.eps1 is None:
            found.append(
                f"methods.ness.eps1: is required with methods.ness.threshold={self.threshold}"
            )
        return tuple(found)

    def way_to_open(self) -> str:
        """Return that the threshold is too low, and that bounded scaling closes nothing at it."""
        ways = [] if self.threshold == "knee" else ["raise methods.ness.eps1"]
        if self.scaling == "hard":
            ways.append("set methods.ness.scaling=bounded")
        return ", or ".join(ways)

    def in_effect(self) -> dict[str, Any]:
        """Return ``eps1`` of the rules that have a default for it."""
        has_default = self.eps1 is None and self.threshold in ("nuclear", "frobenius")
        return {"eps1": _DEFAULT_EPS1} if has_default else {}

    def rule_of(self, layer: str) -> str:
        """Return the threshold rule of a layer in words: ``nuclear 0.001``, ``knee``."""
        return (
            self.threshold
            if self.threshold == "knee"
            else f"{self.threshold} {self.eps1_of(layer):g}"
        )

    def eps1_of(self, layer: str) -> float:
        """Return ``eps1`` for a layer."""
        return _of_layer(layer, self.layer_eps1, self.eps1 or _DEFAULT_EPS1)

    def budget_of(self, layer: str) -> float:
        """Return the budget of a layer, infinity without one or where it chooses itself."""
        return _of_layer(
            layer,
            self.layer_budget,
            math.inf if self.budget in (None, "auto") else float(self.budget),
        )


def _of_layer(layer: str, patterns: Mapping[str, float], otherwise: float) -> float:
    """Return the value of the last pattern that matches a layer."""
    found = [value for pattern, value in patterns.items() if fnmatchcase(layer, pattern)]
    return found[-1] if found else otherwise
