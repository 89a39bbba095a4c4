"""Programs that follow a run while it is made; none of them can break it."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ness_cli import registry
from ness_cli.errors import NessError, SettingsError
from ness_cli.processes import current_processes
from ness_cli.results.events import read_events
from ness_cli.settings.sections import TrackSettings
from ness_cli.trackers.base import TrackedRun, Tracker

if TYPE_CHECKING:
    from ness_cli.stages.context import RunContext

TRACKERS = "ness_cli.trackers"
_SECONDS = 1.0  # between two looks while a task trains
_FINGERPRINT = 8  # characters of it in the name of a folder


def refuse_missing(settings: TrackSettings) -> None:
    """Refuse trackers that there are none of, or whose package is not installed.

    Raises:
        SettingsError: Names the tracker and what to install.
    """
    for name in settings.to:
        kind = _kind(name)
        if kind.package and importlib.util.find_spec(kind.package) is None:
            others = ", ".join(each for each in settings.to if each != name)
            raise SettingsError(
                f"track.to: {name} needs the package {kind.package}, which is not installed",
                f"pip install {kind.install}, or go on without it: 'track.to=[{others}]'",
            )


def _kind(name: str) -> type[Tracker]:
    kind: type[Tracker] = registry.load_class(TRACKERS, name, setting="track.to")
    return kind


class Tracking:
    """Tells the trackers of a run what is new in its files.

    Args:
        context: The run.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._trackers: dict[str, Tracker] | None = None
        self._last = 0.0

    def look_again(self) -> None:
        """Tell what is new, unless that was done a moment ago."""
        if time.monotonic() - self._last >= _SECONDS:
            self.update()

    def update(self) -> None:
        """Tell what is new; a tracker that fails is named once and left alone from then on."""
        if not self._context.settings.track.to or not current_processes().is_main:
            return
        self._last = time.monotonic()
        if self._trackers is None:
            self._trackers = self._made()
        try:
            events = read_events(self._context.run) if self._trackers else []
        except NessError as error:  # the step that reads the file will say it, with a remedy
            self._warn(", ".join(self._trackers), error)
            self._trackers = {}
        for name, tracker in list(self._trackers.items()):
            try:
                tracker.update(events)
            except Exception as error:  # whatever a server, or no server, makes of it
                del self._trackers[name]
                self._warn(name, error)

    def close(self) -> None:
        """Let every tracker finish."""
        for name, tracker in (self._trackers or {}).items():
            try:
                tracker.close()
            except Exception as error:  # as above
                self._warn(name, error)
        self._trackers = None

    def _made(self) -> dict[str, Tracker]:
        context, track = self._context, self._context.settings.track
        path = context.run.path.resolve()
        name = f"{path.parent.name}/{path.name}" if path.name.startswith("seed-") else path.name
        folder = context.run.path
        if track.folder is not None:
            # Runs of one name may differ in their settings, and must not share their files.
            unique = f"{name.replace('/', '-')}-{context.run_record['fingerprint'][:_FINGERPRINT]}"
            folder = Path(track.folder) / unique
        settings = context.settings.identity()
        found = {}
        for each in dict.fromkeys(track.to):
            memory = context.run.path / "track" / f"{each}.json"
            followed = TrackedRun(folder, memory, name, track.project, settings)
            found[each] = _kind(each)(followed)
        return found

    def _warn(self, name: str, error: Exception) -> None:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        self._context.workplace.progress.note(
            f"track.to: {name} failed and is left out until the next command, training goes on:"
            f" {first}"
        )
