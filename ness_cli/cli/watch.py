"""``ness status --watch``: runs as they go on, until all are done."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ness_cli.cli.session import Session
from ness_cli.console import Section
from ness_cli.errors import DamagedError, SystemRefusedError
from ness_cli.results.find_runs import find_runs
from ness_cli.results.live_status import read_live

SECONDS = 2.0


def watch(paths: Sequence[Path], workplace: Session, *, seconds: float = SECONDS) -> None:
    """Show runs until all of them are done; runs that appear meanwhile too.

    A run that does not read back is shown as that, and not waited for.

    Args:
        paths: Run folders, or folders with runs below.
        workplace: Where to show them.
        seconds: Between two looks.

    Raises:
        KeyboardInterrupt: At the first Ctrl-C.
        StoppedError: If another signal asked for a stop.
        InputError: If there is no run.
    """
    resume = f"ness status --watch {shlex.join(map(str, paths))}"
    with _interruptible(), workplace.console.live() as show:
        while True:
            found = [_look(path) for path in find_runs(paths).runs]
            show([section for section, _ in found])
            if not any(is_going_on for _, is_going_on in found):
                return
            workplace.stop.check("runs go on without it", resume)
            time.sleep(seconds)


def _look(path: Path) -> tuple[Section, bool]:
    """Return what is shown of a run, and whether there is something to wait for."""
    try:
        found = read_live(path)
    except (DamagedError, SystemRefusedError) as error:
        return Section(error.what, error.what), False
    return Section(found.key, found.headline, tuple(found.details)), not found.is_done


@contextmanager
def _interruptible() -> Iterator[None]:
    """End at the first Ctrl-C: looking on has no step boundary to wait for."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
