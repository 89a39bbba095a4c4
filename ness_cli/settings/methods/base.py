"""What every method lets the user set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ness_cli.settings.base import Section
from ness_cli.settings.sections import TrainSettings


class MethodOptions(Section):
    """Options of a method; a method without options has none."""

    @property
    def method_name(self) -> str:
        """The method that the options are of, as settings name it: by the file of the class."""
        return type(self).__module__.rpartition(".")[2].replace("_", "-")

    @property
    def variant(self) -> str:
        """What tables put after the method's name where options make it another method."""
        return ""

    def uses_past_data(self, step: str) -> bool:
        """Return whether ``step`` (``train``, ``build``) opens training data of earlier tasks."""
        return False

    def keeps(self) -> str:
        """Return in a few words what later tasks need of earlier ones besides the model."""
        return "nothing"

    def needs_task(self) -> bool:
        """Return whether its layers compute differently for every task.

        Heads and per-task normalisation are of the network, not of the method: they do not count.
        """
        return False

    def passes(self) -> int:
        """Return how often a step of task 2 passes its batch forth and back; SAM comes on top."""
        return 1

    def adjustments(self, train: TrainSettings) -> Mapping[str, Any]:
        """Return training settings that the method needs in place of those of a preset.

        By key below ``train``: ``{"optimizer": "adam", "lr": 1e-3}``. They replace defaults and
        what a preset set for another method. Left alone is what somebody typed or has in a file of
        their own, and what a preset set together with the method; ``problems`` refuses it where
        the method cannot work with it.

        Args:
            train: The training settings as they are without; its optimiser is that of the preset,
                whatever somebody typed.
        """
        return {}

    def problems(self, train: TrainSettings) -> tuple[str, ...]:
        """Return what in the training settings the method cannot work with, a line each."""
        return ()

    def notes(self) -> tuple[str, ...]:
        """Return what every report must say of the method, in plain sentences."""
        return ()

    def way_to_open(self) -> str:
        """Return what opens layers that are left without any direction; empty if nothing does."""
        return ""
