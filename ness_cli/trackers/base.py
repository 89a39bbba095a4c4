"""What programs that follow a run have in common: they are given all its events, again and again.

The list grows at its end, and is after a kill what it was before: training that is repeated gives
the same numbers. A tracker makes what it shows equal to the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ness_cli.results.events import Event


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker knows of a run.

    Attributes:
        folder: Where its files go; the run folder unless the settings say otherwise.
        memory: File in which it remembers what it has told another program.
        name: What the run is called.
        project: What it is part of.
        settings: Its settings, flat.
    """

    folder: Path
    memory: Path
    name: str
    project: str
    settings: Mapping[str, Any]


class Tracker:
    """Follows one run in one process.

    Args:
        run: The run.

    Attributes:
        package: What has to be installed; empty if nothing.
        install: What is typed after ``pip install`` for it.
    """

    package: ClassVar[str] = ""
    install: ClassVar[str] = ""

    def __init__(self, run: TrackedRun) -> None:
        self.run = run

    def update(self, events: Sequence[Event]) -> None:
        """Show all events of the run so far; raises whatever the other program raises."""
        raise NotImplementedError

    def close(self) -> None:
        """Say that this process has no more to tell."""
