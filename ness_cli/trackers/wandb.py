"""Weights & Biases; ``WANDB_MODE=offline`` and its other variables work as everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ness_cli.trackers.base_wandb import AXIS, WandbLike


class Wandb(WandbLike):
    """A run of W&B, found again by its id."""

    package = "wandb"
    install = "wandb"

    def open(self, module: Any, memory: dict[str, Any]) -> int | None:
        """Begin a run, or go on with it, plotted over epochs."""
        known = super().open(module, memory)
        self._theirs.define_metric("*", step_metric=AXIS)
        return known

    def named(self, key: str) -> Mapping[str, Any]:
        """Return id and name."""
        return {"id": key, "name": self.run.name}

    def num_known(self, theirs: Any) -> int | None:
        """Return what the server has; without one it does not tell."""
        return int(theirs.step) if theirs.resumed else None
