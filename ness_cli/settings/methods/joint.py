"""Train on the data of all tasks seen so far: an upper end that keeps all old data."""

from __future__ import annotations

from ness_cli.settings.methods.base import MethodOptions


class Options(MethodOptions):
    """``joint`` has no options."""

    def uses_past_data(self, step: str) -> bool:
        """Return ``True`` for training."""
        return step == "train"

    def keeps(self) -> str:
        """Return that nothing is thrown away."""
        return "all images"

    def notes(self) -> tuple[str, ...]:
        """Return that old data is kept."""
        return ("joint trains on the stored data of all tasks seen; it is no continual learner",)
