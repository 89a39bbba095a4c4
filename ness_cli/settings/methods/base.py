"""What every method lets the user set."""

from __future__ import annotations

from ness_cli.settings.base import Section
from ness_cli.settings.sections import TrainSettings


class MethodOptions(Section):
    """Options of a method; a method without options has none."""

    @property
    def variant(self) -> str:
        """What tables put after the method's name where options make it another method."""
        return ""

    def uses_past_data(self, step: str) -> bool:
        """Return whether ``step`` (``train``, ``build``) opens training data of earlier tasks."""
        return False

    def problems(self, train: TrainSettings) -> tuple[str, ...]:
        """Return what in the training settings the method cannot work with, a line each."""
        return ()

    def notes(self) -> tuple[str, ...]:
        """Return what every report must say of the method, in plain sentences."""
        return ()

    def way_to_open(self) -> str:
        """Return what opens layers that are left without any direction; empty if nothing does."""
        return ""
