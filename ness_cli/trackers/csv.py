"""``events.csv``: a line per event, a column per name, empty where it was not measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from ness_cli.files import write_bytes
from ness_cli.results.events import Event
from ness_cli.trackers.base import Tracker


class Csv(Tracker):
    """Writes the whole file every time, so that a kill leaves no line twice and none out."""

    def update(self, events: Sequence[Event]) -> None:
        """Write all events."""
        names = list(dict.fromkeys(name for event in events for name in event.values))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", *names])
        for event in events:
            writer.writerow([event.step, *(event.values.get(name, "") for name in names)])
        write_bytes(self.run.folder / "events.csv", text.getvalue().encode(), durable=False)
