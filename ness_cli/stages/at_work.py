"""A run opened to be worked on, followed by whoever asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ness_cli.run_dir import RunDir
from ness_cli.stages.context import RunContext
from ness_cli.workplace import Workplace


@contextmanager
def at_work(run: RunDir, workplace: Workplace) -> Iterator[RunContext]:
    """Open a run whose steps are to be made, and tell its trackers all there is in the end.

    Args:
        run: The run folder, locked.
        workplace: Where and how to run.

    Raises:
        InputError, DamagedError, SystemRefusedError: As ``RunContext`` raises them.
    """
    context = RunContext(run, workplace)
    try:
        yield context
        context.tracking.update()
    finally:
        context.tracking.close()
