"""Options of methods that project gradients, and so train with SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.sections import TrainSettings


class SgdOptions(MethodOptions):
    """Options of a method that confines steps by projecting gradients."""

    def adjustments(self, train: TrainSettings) -> Mapping[str, Any]:
        """Return SGD, with a rate for it, where the preset of another method has Adam."""
        return {"optimizer": "sgd", "lr": 0.01} if train.is_adaptive else {}

    def problems(self, train: TrainSettings) -> tuple[str, ...]:
        """Return that Adam is refused: its step leaves the subspace of a projected gradient."""
        if train.is_adaptive:
            return ("train.optimizer: a projected gradient does not confine adam; use sgd",)
        return ()
