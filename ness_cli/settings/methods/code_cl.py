"""CODE-CL (Apolinario et al. 2025): slow old directions by conceptors, and mix shared ones."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.base import AFTER_TRAINING
from ness_cli.settings.methods.base_sgd import SgdOptions


class Options(SgdOptions):
    """Options of the method ``code-cl``; defaults are the authors' for CIFAR-100."""

    aperture: float = Field(default=6.0, gt=0, json_schema_extra=AFTER_TRAINING)
    """Where the aperture of every task's conceptor starts; the larger, the more is protected."""
    share: float = Field(default=0.95, ge=0, lt=1)
    """The aperture is multiplied by 1.1 until the conceptor keeps this much of the inputs' length,
    sum ||C x|| / sum ||x||."""
    lowest: float = Field(default=0.2, ge=0, lt=1)
    """Directions with a smaller value of the conceptor are left open altogether."""
    samples: int = Field(default=125, ge=1, json_schema_extra=AFTER_TRAINING)
    """Training images that conceptors are taken from."""
    mix: int = Field(default=80, ge=0)
    """Directions, at most, that a task from the second on mixes in a layer by a matrix of its own,
    ``[mix, mix]``: the leading ones of the conceptor of what old and new inputs share. Only its
    task uses it, and the task must be known. 0 for none."""
    overlap: float = Field(default=0.5, ge=0)
    """A layer is mixed where old and new inputs share more than this of what the old ones use."""

    @property
    def variant(self) -> str:
        """What departs from the authors: ``no mix``."""
        return "" if self.mix else "no mix"

    def keeps(self) -> str:
        """Return what is slowed, and what is mixed."""
        return "a conceptor of every layer" + (", matrices of every task" if self.mix else "")

    def needs_task(self) -> bool:
        """Return whether tasks mix directions, each in its own way."""
        return self.mix > 0

    def notes(self) -> tuple[str, ...]:
        """Return that the task must be known where tasks mix."""
        if not self.mix:
            return ()
        return ("every task mixes directions for itself: layers need to know the task",)

    def way_to_open(self) -> str:
        """Return that less is to be protected."""
        return "lower methods.code-cl.aperture or methods.code-cl.share"
