"""``events.jsonl``: a JSON object per event."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ness_cli.files import write_bytes
from ness_cli.results.events import Event
from ness_cli.trackers.base import Tracker


class Jsonl(Tracker):
    """Writes the whole file every time, so that a kill leaves no line twice and none out."""

    def update(self, events: Sequence[Event]) -> None:
        """Write all events."""
        lines = [json.dumps({"step": event.step, **event.values}) + "\n" for event in events]
        write_bytes(self.run.folder / "events.jsonl", "".join(lines).encode(), durable=False)
