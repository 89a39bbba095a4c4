"""``progress.png``: how far a run has come, to look at while it runs. No result depends on it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ness_cli.files import write_bytes
from ness_cli.plots.picture import INSTALL, is_possible, render
from ness_cli.results.read_run import read_run
from ness_cli.results.run_pictures import progress
from ness_cli.stages.context import RunContext

_SHARE = 0.03  # of the time, at most, goes into pictures
_DPI = 100


@dataclass
class ProgressPicture:
    """Draws a run's picture as tasks are evaluated.

    Where tasks take hardly longer than drawing it is drawn now and then; see ``finish``.

    Attributes:
        context: The run, locked.
    """

    context: RunContext
    _is_behind: bool = False
    _not_before: float = 0.0

    def after(self, task_number: int) -> None:
        """Draw the run as it is now that a task was evaluated; what goes wrong stops nothing."""
        if not self.context.settings.storage.progress_picture:
            return
        if not is_possible():
            if task_number == 1:
                self._note(f"matplotlib is not installed: {INSTALL}")
            return
        self._is_behind = True
        if time.monotonic() >= self._not_before:
            self.finish()

    def finish(self) -> None:
        """Draw what was evaluated since the last drawing, if anything was."""
        if not self._is_behind:
            return
        started = time.monotonic()
        try:
            drawn = render(progress(read_run(self.context.run.path)), ".png", dpi=_DPI)
            self.context.require_same_run()
            write_bytes(self.context.run.progress, drawn, durable=False)
        except Exception as error:  # of a library, or a disk: accuracies matter, not their picture
            self._note(f"{type(error).__name__}: {error}")
        ended = time.monotonic()
        self._is_behind, self._not_before = False, ended + (ended - started) / _SHARE

    def _note(self, why: str) -> None:
        self.context.workplace.progress.note(f"{self.context.run.progress} is not drawn, {why}")
