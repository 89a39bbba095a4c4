"""Averaged gradient episodic memory (Chaudhry et al. 2019): no step against stored images."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.methods.base_replay import ReplayOptions


class Options(ReplayOptions):
    """Options of the method ``agem``."""

    memory_batch: int = Field(default=256, ge=1)
    """Stored images whose mean gradient a step is compared with, drawn from all earlier tasks; all
    of them while there are no more. The authors' value (128 for their larger images)."""
