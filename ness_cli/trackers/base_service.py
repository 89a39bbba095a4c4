"""Programs that keep a run's numbers themselves: a run of theirs, events appended to it.

Which of their runs is ours, and how many events it has, stands in a small file of the run. Where
the program itself knows how many, that counts: the last ones before a kill may not have arrived.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import uuid
from collections.abc import Sequence
from typing import Any

from ness_cli.files import write_json
from ness_cli.results.events import Event
from ness_cli.trackers.base import TrackedRun, Tracker


class ServiceTracker(Tracker):
    """Appends every event once, numbered from 0."""

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self._is_open = False
        self._memory: dict[str, Any] = {}

    def update(self, events: Sequence[Event]) -> None:
        """Append what is new."""
        # They print to stdout, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            if not self._is_open:
                self._memory = self._read() or {"key": uuid.uuid4().hex, "logged": 0}
                self._remember()
                known = self.open(importlib.import_module(self.package), self._memory)
                self._memory["logged"] = self._memory["logged"] if known is None else known
                self._is_open = True
            start = self._memory["logged"]
            try:
                for number, event in enumerate(events[start:], start=start):
                    self.append(number, event)
                    self._memory["logged"] = number + 1
            finally:
                self._remember()

    def close(self) -> None:
        """Say that this process has no more to tell."""
        if self._is_open:
            with contextlib.redirect_stdout(sys.stderr):
                self.finish()

    def open(self, module: Any, memory: dict[str, Any]) -> int | None:
        """Begin or go on with a run of theirs.

        Args:
            module: The package.
            memory: ``key``, which no other run has; what is added is there again next time.

        Returns:
            How many events it has, ``None`` if it does not tell.
        """
        raise NotImplementedError

    def append(self, number: int, event: Event) -> None:
        """Add an event to the run."""
        raise NotImplementedError

    def finish(self) -> None:
        """Leave the run."""
        raise NotImplementedError

    def _read(self) -> dict[str, Any]:
        if not self.run.memory.is_file():
            return {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            found = json.loads(self.run.memory.read_text())
            return {**found, "key": str(found["key"]), "logged": int(found["logged"])}
        return {}

    def _remember(self) -> None:
        write_json(self.run.memory, self._memory)
