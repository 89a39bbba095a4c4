"""The shape of W&B's package, which others took over: ``init``, ``run.log``, ``run.finish``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ness_cli.results.events import Event
from ness_cli.trackers.base_service import ServiceTracker

AXIS = "epochs"
"""What values are plotted over: epochs trained, over all tasks."""


class WandbLike(ServiceTracker):
    """Logs with ``step``, the number of the event."""

    def open(self, module: Any, memory: dict[str, Any]) -> int | None:
        """Begin a run, or go on with it."""
        self._module = module
        self._theirs = module.init(
            project=self.run.project,
            config=dict(self.run.settings),
            resume="allow",
            **self.named(str(memory["key"])),
        )
        return self.num_known(self._theirs)

    def append(self, number: int, event: Event) -> None:
        """Log an event."""
        self._theirs.log({AXIS: event.step, **event.values}, step=number)

    def finish(self) -> None:
        """Finish the run: what is on its way arrives."""
        # Not the run's own: Trackio would finish it a second time when the process ends.
        self._module.finish()

    def named(self, key: str) -> Mapping[str, Any]:
        """Return what the run is found again by, as ``init`` takes it."""
        raise NotImplementedError

    def num_known(self, theirs: Any) -> int | None:
        """Return how many events a run of theirs has, ``None`` if it does not tell."""
        return None
