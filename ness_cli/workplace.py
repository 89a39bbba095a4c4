"""Where and how a command or a step runs; none of it belongs to a run's identity."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ness_cli.console import Advance, Progress
from ness_cli.stop_request import StopRequest


@dataclass(frozen=True)
class Workplace:
    """Where and how a step runs.

    Attributes:
        cache: Folder of prepared data.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        threads: CPU threads; torch's own choice when ``None``.
        progress: Receives what is going on.
        stop: Says whether to stop.
    """

    cache: Path
    device: str = "auto"
    threads: int | None = None
    progress: Progress = field(default_factory=Progress)
    stop: StopRequest = field(default_factory=StopRequest)


class StoppableProgress(Progress):
    """Progress that also stops the work if somebody asked.

    Args:
        progress: Receives what is going on.
        stop: Says whether to stop.
        what: What becomes of the work, for the message.
        resume: Command that goes on with it.
    """

    def __init__(self, progress: Progress, stop: StopRequest, what: str, resume: str) -> None:
        self._progress, self._stop = progress, stop
        self._what, self._resume = what, resume

    @contextlib.contextmanager
    def track(self, description: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Follow a piece of work; raises ``StoppedError`` out of it."""
        with self._progress.track(description, total, done) as advance:

            def advance_or_stop(n: int = 1, info: str = "") -> None:
                advance(n, info)
                self._stop.check(self._what, self._resume)

            yield advance_or_stop

    def note(self, text: str) -> None:
        """Say something in passing."""
        self._progress.note(text)


def stopping(
    workplace: Workplace, resume: str, advance: Callable[[int, str], None]
) -> Callable[[int], None]:
    """Return ``advance`` that also stops the step if somebody asked."""

    def advance_or_stop(done: int) -> None:
        advance(done, "")
        workplace.stop.check("this step starts over, earlier steps are kept", resume)

    return advance_or_stop
