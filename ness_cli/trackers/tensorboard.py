"""TensorBoard: event files in the folder ``tensorboard`` of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ness_cli.results.events import Event
from ness_cli.trackers.base import TrackedRun, Tracker

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Tensorboard(Tracker):
    """Begins a file anew in every process, and appends to it.

    Event files cannot be corrected: of a process that was killed nobody knows which of its last
    events are in its file. The new file tells a TensorBoard that is watching to forget the old one.
    """

    package = "tensorboard"
    install = "'ness-cli[tracking]'"

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self._writer: SummaryWriter | None = None
        self._num_written = 0

    def update(self, events: Sequence[Event]) -> None:
        """Append what is new; first of all everything."""
        is_first = self._writer is None
        if self._writer is None:
            folder = self.run.folder / "tensorboard"
            old = sorted(folder.glob("events.out.tfevents.*"))
            self._writer = _writer(str(folder))
        for event in events[self._num_written :]:
            for name, value in event.values.items():
                self._writer.add_scalar(name, value, event.step, event.time)
        self._num_written = max(self._num_written, len(events))
        self._writer.flush()
        for path in old if is_first else ():
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _writer(folder: str) -> SummaryWriter:
    # Not at the top: it takes a second to import.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, purge_step=0)
