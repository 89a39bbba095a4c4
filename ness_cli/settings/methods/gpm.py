"""Gradient projection memory (Saha et al. 2021): keep off the leading directions of old inputs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ness_cli.settings.base import AFTER_SECOND_TRAINING, AFTER_TRAINING
from ness_cli.settings.methods.base_sgd import SgdOptions

EnergyThreshold = (
    Annotated[float, Field(gt=0, le=1)]
    | Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(strict=False, min_length=1)]
)
"""A share of energy for all layers, or one for each."""


class Options(SgdOptions):
    """Options of the method ``gpm``."""

    threshold: EnergyThreshold = Field(default=0.97, json_schema_extra=AFTER_TRAINING)
    """Share of the inputs' energy that is protected after task 1: one for all layers, or a list in
    layer order."""
    threshold_increase: float = Field(default=0.003, ge=0, json_schema_extra=AFTER_SECOND_TRAINING)
    """Added to the threshold with every further task; the sum is capped at 1."""
    samples: int = Field(default=125, ge=1, json_schema_extra=AFTER_TRAINING)
    """Training images whose layer inputs the memory is taken from."""
    layer_samples: (
        Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1)] | None
    ) = Field(default=None, json_schema_extra=AFTER_TRAINING)
    """Images used per layer, in layer order, each at most ``samples``; all of them when absent."""
    first_rank: Literal["below", "reach"] = Field(default="below", json_schema_extra=AFTER_TRAINING)
    """Rank after task 1: ``below`` keeps one direction fewer than reaches the threshold, as the
    authors' code does; ``reach`` is the paper's rule, used for all later tasks."""

    def keeps(self) -> str:
        """Return what is protected."""
        return "leading directions of every layer"

    def way_to_open(self) -> str:
        """Return that less is to be protected."""
        own = f"methods.{self.method_name}"
        return f"lower {own}.threshold or {own}.threshold_increase"
