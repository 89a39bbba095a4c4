"""What the commands of single steps share: open the run, make the step, show what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from ness_cli.cli.session import Session
from ness_cli.errors import InputError, LockedError
from ness_cli.processes import Processes, joined_processes, local_device, num_started
from ness_cli.results.step_tables import step_table
from ness_cli.results.task_facts import read_tasks
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_run_record
from ness_cli.stages.at_work import at_work
from ness_cli.stages.context import RunContext
from ness_cli.stages.device import torch_device
from ness_cli.stages.outcome import Outcome


def make_step(
    name: str, run: Path, workplace: Session, step: Callable[[RunContext], Outcome]
) -> None:
    """Make one step of a run and show its result, as tables or as a document.

    Args:
        name: ``train``, ``build`` or ``evaluate``.
        run: The run folder.
        workplace: Where to work and to report; of several processes each has a device of its own.
        step: Makes the step in the opened run.
    """
    folder, console = RunDir(run), workplace.console
    read_run_record(folder)  # refuses a folder that is no run before a lock file is put there
    workplace = replace(workplace, device=local_device(workplace.device))
    if num_started() > 1 and name == "evaluate":
        raise InputError(
            f"evaluate cannot be divided among {num_started()} processes",
            "run it without torchrun",
        )
    with (
        joined_processes(torch_device(workplace)) as processes,
        _lock(folder, processes, console.note),
        at_work(folder, workplace) as context,
    ):
        outcome = step(context)
        state = context.state()
    if outcome.note:
        console.note(outcome.note)
    if outcome.record:
        console.result(step_table(name, outcome.record, read_tasks(folder, state.num_tasks)))
    console.document(
        {
            "schema": "ness.step/1",
            "step": name,
            "run": str(run),
            "task": outcome.task,
            "skipped": outcome.was_skipped,
            "record": dict(outcome.record),
            "next": state.next_command(),
        }
    )
    console.next(state.next_command())


@contextmanager
def _lock(folder: RunDir, processes: Processes, note: Callable[[str], None]) -> Iterator[None]:
    """Hold the run in the first process, and let the others go on only when it does."""
    with ExitStack() as stack:
        refusal = None
        if processes.is_main:
            try:
                stack.enter_context(folder.lock(note))
            except LockedError as error:
                refusal = error
        (is_refused,) = processes.any(refusal is not None)
        if is_refused:
            raise refusal or LockedError(f"{folder.path} is in use", "see the first process")
        yield
        processes.wait()
