"""What methods that store training images let the user set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ness_cli.settings.methods.base import MethodOptions


class ReplayOptions(MethodOptions):
    """Options of an episodic memory."""

    memory: int = Field(default=2000, ge=1)
    """Training images stored of all earlier tasks together, at most."""
    per_class: int | None = Field(default=None, ge=1)
    """Training images stored of every class, at most; as many as ``memory`` has room for when
    absent."""
    selection: Literal["balanced", "reservoir"] = "balanced"
    """Which images are stored: equally many of every class of every task, drawn at random, or a
    uniform sample of all that were seen (``reservoir``)."""

    def keeps(self) -> str:
        """Return the stored images."""
        return f"up to {self.memory} images"

    def passes(self) -> int:
        """Return two: one for the batch, one for stored images."""
        return 2

    def notes(self) -> tuple[str, ...]:
        """Return that old images are stored."""
        return (f"up to {self.memory} training images of earlier tasks are stored",)
