"""What a preset says about itself, for ``ness reproduce``: published numbers, seeds, tolerances."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ness_cli.settings.base import Section
from ness_cli.words import fixed


class Published(Section):
    """A published result, in percent, mean ± sample standard deviation over seeds."""

    acc: float
    """Mean accuracy over all tasks at the end."""
    acc_std: float | None = None
    """Its deviation over seeds, where known."""
    bwt: float | None = None
    """Backward transfer, where known."""
    bwt_std: float | None = None
    """Its deviation over seeds, where known."""
    seeds: int = Field(default=5, ge=1)
    """Number of seeds behind it."""
    source: str
    """Where it was published."""
    not_comparable: str | None = None
    """Why these numbers are not for comparison, if they are not."""

    def __str__(self) -> str:
        bwt = "" if self.bwt is None else f" / {fixed(self.bwt, signed=True)}"
        return f"{self.acc:.2f}{bwt}"


class About(Section):
    """The section ``about`` of a preset; no part of a run's settings."""

    published: Published | None = None
    """What the preset is to be compared with; nothing when absent."""
    seeds: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] = (1, 2, 3, 4, 37)
    """Seeds that ``ness reproduce`` runs."""
    acc_tolerance: float = Field(default=1.0, gt=0)
    """Points of ACC that a reproduction may differ by, whatever the spread over seeds."""
    bwt_tolerance: float = Field(default=1.0, gt=0)
    """Points of BWT, likewise."""
