"""Gradient projection memory (Saha et al. 2021): keep off the leading directions of old inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.sections import TrainSettings

EnergyThreshold = (
    Annotated[float, Field(gt=0, le=1)]
    | Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(strict=False, min_length=1)]
)
"""A share of energy for all layers, or one for each."""


class Options(MethodOptions):
    """Options of the method ``gpm``."""

    threshold: EnergyThreshold = 0.97
    """Share of the inputs' energy that is protected after task 1: one for all layers, or a list in
    layer order."""
    threshold_increase: float = Field(default=0.003, ge=0)
    """Added to the threshold with every further task; the sum is capped at 1."""
    samples: int = Field(default=125, ge=1)
    """Training images whose layer inputs the memory is taken from."""
    layer_samples: (
        Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1)] | None
    ) = None
    """Images used per layer, in layer order, each at most ``samples``; all of them when absent."""
    first_rank: Literal["below", "reach"] = "below"
    """Rank after task 1: ``below`` keeps one direction fewer than reaches the threshold, as the
    authors' code does; ``reach`` is the paper's rule, used for all later tasks."""

    def keeps(self) -> str:
        """Return what is protected."""
        return "leading directions of every layer"

    def adjustments(self, train: TrainSettings) -> Mapping[str, Any]:
        """Return SGD, with a rate for it, where the preset of another method has Adam."""
        return {"optimizer": "sgd", "lr": 0.01} if train.is_adaptive else {}

    def problems(self, train: TrainSettings) -> tuple[str, ...]:
        """Return that Adam is refused: its step leaves the subspace of a projected gradient."""
        if train.is_adaptive:
            return ("train.optimizer: a projected gradient does not confine adam; use sgd",)
        return ()

    def way_to_open(self) -> str:
        """Return that less is to be protected."""
        return "lower methods.gpm.threshold or methods.gpm.threshold_increase"
