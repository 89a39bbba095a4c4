"""Elastic weight consolidation (Kirkpatrick et al. 2017): hold on to weights that mattered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from ness_cli.settings.base import AFTER_SECOND_TRAINING, AFTER_TRAINING, only_with
from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.sections import TrainSettings


class Options(MethodOptions):
    """Options of the method ``ewc``."""

    strength: float = Field(default=5000.0, ge=0, json_schema_extra=AFTER_TRAINING)
    """Factor lambda of the penalty (lambda / 2) sum F (theta - theta*)^2. It belongs to
    ``fisher_batch``: per-image squares are many times larger."""
    fisher_batch: int = Field(default=20, ge=1, json_schema_extra=AFTER_TRAINING)
    """Images whose mean gradient is squared, as in the authors' experiments; 1 squares the gradient
    of every image, which is the empirical Fisher information."""
    fisher_samples: int | None = Field(default=None, ge=1, json_schema_extra=AFTER_TRAINING)
    """Training images that it is estimated from; all of them when absent."""
    merge: Literal["mean", "online"] = Field(
        default="mean", json_schema_extra=AFTER_SECOND_TRAINING
    )
    """How the information of a new task joins that of the earlier ones: their ``mean`` over tasks,
    which leaves the meaning of ``strength`` alone, or ``online``: decay times the old plus the
    new."""
    decay: float = Field(
        default=1.0, ge=0, le=1, json_schema_extra=only_with(merge="online") | AFTER_SECOND_TRAINING
    )
    """``online``: what is left of the old information after every task; 1 adds up."""

    def keeps(self) -> str:
        """Return the information and where the weights were."""
        return "a weight of every parameter"

    def adjustments(self, train: TrainSettings) -> Mapping[str, Any]:
        """Return the authors' limit on gradients where there is none.

        Weights whose information times lambda and the rate is large blow up without it.
        """
        return {} if train.clip_norm else {"clip_norm": 100.0}
