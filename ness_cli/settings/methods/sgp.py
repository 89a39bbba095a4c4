"""Scaled gradient projection (Saha and Roy 2023): slow old directions by how much they matter."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.base import AFTER_TRAINING
from ness_cli.settings.methods import gpm


class Options(gpm.Options):
    """Options of the method ``sgp``: those of ``gpm``, and how steeply importance rises."""

    scale_coefficient: float = Field(default=10.0, ge=0, json_schema_extra=AFTER_TRAINING)
    """Alpha of the importance (alpha + 1) s / (alpha s + max s); the larger, the more of the
    protected directions are closed altogether."""

    def keeps(self) -> str:
        """Return what is slowed, and by how much."""
        return "leading directions of every layer, and their importance"

    def way_to_open(self) -> str:
        """Return that less is to be protected, or less of it closed."""
        return "lower methods.sgp.threshold or methods.sgp.scale_coefficient"
