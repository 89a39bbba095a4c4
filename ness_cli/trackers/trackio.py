"""Trackio, Hugging Face's local-first tracker in the shape of W&B."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ness_cli.trackers.base_wandb import WandbLike


class Trackio(WandbLike):
    """A run of Trackio, found again by its name."""

    package = "trackio"
    install = "trackio"

    def named(self, key: str) -> Mapping[str, Any]:
        """Return a name that no other run has."""
        return {"name": f"{self.run.name}-{key[:8]}", "embed": False}

    def num_known(self, theirs: Any) -> int | None:
        """Return the step that comes next; without it our own count is good enough."""
        found = getattr(theirs, "_next_step", None)
        return found if isinstance(found, int) else None
