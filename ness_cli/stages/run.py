"""All steps of a run in order, skipping what is done."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from ness_cli.errors import InputError
from ness_cli.run_state import COMMANDS, RunState, command
from ness_cli.stages.build_subspace import build_subspace
from ness_cli.stages.context import RunContext
from ness_cli.stages.evaluate import evaluate
from ness_cli.stages.outcome import Outcome
from ness_cli.stages.progress_picture import ProgressPicture
from ness_cli.stages.train_task import train_task

_MOST_SHOWN = 6


def run_steps(
    context: RunContext,
    *,
    until: int | None,
    on_step: Callable[[str, Outcome], None],
    force: bool = False,
) -> None:
    """Train, consolidate and evaluate every task that is not done yet.

    Args:
        context: The run, locked.
        until: Last task; all when ``None``.
        on_step: Told of every step that was made: ``train``, ``build`` or ``evaluate``.
        force: Make finished steps anew whose inputs or outputs are not what they were.

    Raises:
        InputError: If the run has no task ``until``, or finished work would be overwritten and
            ``force`` does not say so.
        NessError: Whatever a step raises.
    """
    num_tasks = context.stream.num_tasks
    last = num_tasks if until is None else until
    if not 1 <= last <= num_tasks:
        raise InputError(f"--until: {until} is not between 1 and {num_tasks}")
    if not force:
        refuse_to_redo(context.state(), last)
    picture = ProgressPicture(context)
    for task_number in range(1, last + 1):
        steps = {"train": train_task, "build": build_subspace, "evaluate": evaluate}
        for name, step in steps.items():
            outcome = step(context, task_number)
            if not outcome.was_skipped:
                on_step(name, outcome)
                if name == "evaluate":
                    picture.after(task_number)
            context.workplace.stop.check(
                f"{name} of task {task_number} is complete", f"ness run --out {context.run.path}"
            )
    picture.finish()


def refuse_to_redo(state: RunState, until: int) -> None:
    """Refuse to overwrite finished work that nobody asked to have made anew.

    Raises:
        InputError: If a step of a task up to ``until`` is stale; lists them, and why.
    """
    stale, first = state.stale(until), state.next()
    if not stale or first is None:
        return
    path = shlex.quote(str(state.run.path))
    lines = [f"  {COMMANDS[s.step]} of task {s.task}: {s.why}" for s in stale[:_MOST_SHOWN]]
    if len(stale) > _MOST_SHOWN:
        lines.append(f"  and {len(stale) - _MOST_SHOWN} more, which ness status {path} lists")
    raise InputError(
        "\n".join([f"{state.run.path}: finished steps would be made anew:", *lines]),
        f"put back what is gone; or make all of them anew: ness run --out {path} --force; or the "
        f"first, which may be enough: {command(state.run.path, first.step, first.task)}",
    )
