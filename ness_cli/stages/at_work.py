"""A run opened to be worked on, for whoever follows or watches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ness_cli.run_dir import RunDir
from ness_cli.stages.context import RunContext
from ness_cli.stages.device import torch_device
from ness_cli.stages.live_progress import LiveProgress
from ness_cli.workplace import Workplace


@contextmanager
def at_work(run: RunDir, workplace: Workplace) -> Iterator[RunContext]:
    """Open a run whose steps are to be made.

    What is going on is also written into the run, and its trackers are told all there is in the
    end.

    Args:
        run: The run folder, locked.
        workplace: Where and how to run.

    Raises:
        InputError, DamagedError, SystemRefusedError: As ``RunContext`` raises them.
    """
    device = torch_device(workplace)
    progress = LiveProgress(workplace.progress, run, device)
    own = Workplace(workplace.cache, workplace.device, workplace.threads, progress, workplace.stop)
    context = RunContext(run, own)
    try:
        yield context
        context.tracking.update()
    finally:
        context.tracking.close()
