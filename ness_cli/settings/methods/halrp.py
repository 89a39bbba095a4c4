"""Hessian-aware low-rank perturbation (Li et al. 2024): every task rescales and adds to the first.

Tasks after the first keep its weights and learn factors of low rank for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.sections import TrainSettings


class Options(MethodOptions):
    """Options of the method ``halrp``."""

    probe_epochs: int = Field(default=1, ge=1)
    """Of ``train.epochs``, the first ones of every task after the first, in which a copy of the
    first task's weights trains freely to show what is missing. Published: 1, up to 25 of 50."""
    rank_rule: Literal["importance", "flat"] = "importance"
    """Ranks of layers: as many directions, over all layers, as carry ``importance`` of what leaving
    them out would cost; or ``flat``: ``max_rank`` in every layer."""
    importance: float = Field(default=0.9, gt=0, le=1)
    """Share of the cost that is kept, a fraction. Published: 0.9, 0.95 for ResNet18."""
    max_rank: int = Field(default=100, ge=1)
    """Directions of a layer, at most; at least one. Published: 100, 120 for ResNet18."""
    decay: float = Field(default=1e-4, ge=0)
    """Factor of half the sum of squares, of weights in task 1 and of factors later."""
    scales_decay_to: Literal["zero", "one"] = "zero"
    """What the scales of rows and columns decay to: ``zero`` as published, where strong decay fades
    the first task's weights out, or ``one``, where they are as they were."""
    sparsity: float = Field(default=1e-4, ge=0)
    """Factor of the sum of absolute values of the low-rank factors."""
    budget: float | None = Field(default=0.2, gt=0)
    """What all later tasks may add to the size of the first one's network, a fraction: the smallest
    entries of low-rank factors are pruned to it. Published: 0.2 and 0.6. No limit when absent."""
    prune_below: float = Field(default=1e-5, ge=0)
    """Where anything is pruned, entries up to this size go in any case."""

    def keeps(self) -> str:
        """Return the factors."""
        return "scales and low-rank factors of every layer and task"

    def needs_task(self) -> bool:
        """Return ``True``: every task has weights of its own."""
        return True

    def adjustments(self, train: TrainSettings) -> Mapping[str, Any]:
        """Return Adam at the authors' rate where the preset has SGD, with which factors diverge.

        And no decay beside that of ``methods.halrp.decay``, which is part of the loss.
        """
        found: dict[str, Any] = {} if train.is_adaptive else {"optimizer": "adam", "lr": 1e-3}
        return {**found, "weight_decay": 0.0} if train.weight_decay else found

    def problems(self, train: TrainSettings) -> tuple[str, ...]:
        """Return that the probe needs epochs of its own, and heads none."""
        found = []
        if self.probe_epochs >= train.epochs:
            found.append(
                f"methods.halrp.probe_epochs: {self.probe_epochs} of {train.epochs} epochs leave"
                " none to train in; raise train.epochs, or lower it"
            )
        if train.head_epochs:
            found.append(
                "train.head_epochs: halrp's probe trains heads first, with all of the network;"
                " set it to 0"
            )
        return tuple(found)
