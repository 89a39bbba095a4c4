"""Adam in null space (Wang et al. 2021): project Adam's step off the inputs of earlier tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from ness_cli.settings.base import AFTER_TRAINING, only_with
from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.sections import TrainSettings


class Options(MethodOptions):
    """Options of the method ``adam-nscl``."""

    threshold: Literal["smallest", "energy"] = Field(
        default="smallest", json_schema_extra=AFTER_TRAINING
    )
    """Directions with an eigenvalue of at most lambda are learned in. lambda is ``factor`` times
    the ``smallest`` eigenvalue, as published; or the eigenvalue below which lies the share
    ``energy`` of all of them, which holds on inputs of deficient rank too."""
    factor: float = Field(
        default=10.0, ge=1, json_schema_extra=only_with(threshold="smallest") | AFTER_TRAINING
    )
    """``smallest``: published are 10 for ten tasks of CIFAR-100 and 30 for twenty. Eigenvalues that
    cannot be told from zero in float64 count as the least that can be."""
    energy: float = Field(
        default=1e-3, gt=0, lt=1, json_schema_extra=only_with(threshold="energy") | AFTER_TRAINING
    )
    """``energy``: share of the inputs' energy in the directions learned in, a fraction."""
    covariance: Literal["all", "batch-mean"] = Field(
        default="all", json_schema_extra=AFTER_TRAINING
    )
    """What covariances are summed over: the inputs of ``all`` images, as the paper has it, or the
    mean of the inputs of every batch of ``train.batch_size``, as in the authors' last code, which
    leaves wide layers with a deficient rank."""
    scaling: Literal["none", "frobenius"] = Field(default="none", json_schema_extra=AFTER_TRAINING)
    """``frobenius`` divides the projection onto k directions by its Frobenius norm, the root of k,
    as the authors' code does: a rate for every layer that the paper does not have."""
    norm_strength: float | None = Field(default=None, ge=0)
    """Train the scales and shifts that tasks share on after task 1, pulled back by EWC with this
    factor (published: 100). They rest when it is absent."""
    first_lr_factor: float = Field(default=1.0, gt=0)
    """Factor on ``train.lr`` for the confined layers in task 1; published: 0.1."""
    lr_factor: float = Field(default=1.0, gt=0)
    """The same in later tasks; published: 0.05."""
    norm_lr_factor: float = Field(default=1.0, gt=0)
    """Factor on ``train.lr`` for shared scales and shifts; published: 0.5."""

    def keeps(self) -> str:
        """Return the matrices of every layer."""
        return "a covariance and a basis of every layer"

    def adjustments(self, train: TrainSettings) -> Mapping[str, Any]:
        """Return Adam, with a rate for it, where the preset has SGD."""
        return {} if train.is_adaptive else {"optimizer": "adam", "lr": 1e-3}

    def notes(self) -> tuple[str, ...]:
        """Return that shared scales and shifts of old tasks move."""
        if self.norm_strength is None:
            return ()
        return ("scales and shifts that tasks share train on after task 1, held by EWC",)

    def way_to_open(self) -> str:
        """Return that more is to be learned in."""
        return f"raise methods.adam-nscl.{'factor' if self.threshold == 'smallest' else 'energy'}"
