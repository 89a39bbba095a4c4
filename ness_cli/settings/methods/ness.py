"""Learn in the null space of earlier inputs, estimated from small singular values."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.sections import TrainSettings


class Options(MethodOptions):
    """Options of the method ``ness``."""

    eps1: float = Field(default=1e-3, gt=0)
    """Directions with a singular value of at most ``eps1`` times the norm below are learned in."""
    threshold: Literal["nuclear", "frobenius"] = "nuclear"
    """Norm that ``eps1`` multiplies: the sum of the singular values, as in every published run, or
    the Frobenius norm, as the paper prints it."""
    scaling: Literal["hard", "bounded"] = "hard"
    """``hard`` closes the directions above the threshold, as published. ``bounded`` slows them down
    to tau over their singular value, which keeps the same bound."""
    gamma: float = Field(default=1.0, ge=1)
    """``bounded``: exponent of the slowing; the larger, the nearer to the hard cut."""
    covariance: Literal["accumulate", "recompute"] = "accumulate"
    """``accumulate`` adds each task's inputs once and keeps no data. ``recompute`` passes all
    earlier training data through the current network after every task, as the published runs."""
    form: Literal["auto", "projected", "factored"] = "auto"
    """How W = W_prev + (U V)^T is trained: by projecting the dense gradient (sgd), or by training V
    itself (adam). ``auto`` chooses by optimiser."""

    def uses_past_data(self, step: str) -> bool:
        """Return ``True`` for building when covariances are recomputed."""
        return step == "build" and self.covariance == "recompute"

    def notes(self) -> tuple[str, ...]:
        """Return that old data is passed through the network again, if it is."""
        if self.covariance == "recompute":
            return ("covariances are recomputed from the stored data of all tasks seen",)
        return ()

    def problems(self, train: TrainSettings) -> tuple[str, ...]:
        """Return that Adam needs the factored form: it is not rotation invariant."""
        if train.optimizer == "adam" and self.form == "projected":
            return ("methods.ness.form: adam needs the factored form; use auto or factored",)
        return ()
