"""All steps of a run in order, skipping what is done."""

from __future__ import annotations

from collections.abc import Callable

from ness_cli.errors import InputError
from ness_cli.stages.build_subspace import build_subspace
from ness_cli.stages.context import RunContext
from ness_cli.stages.evaluate import evaluate
from ness_cli.stages.outcome import Outcome
from ness_cli.stages.train_task import train_task


def run_steps(
    context: RunContext,
    *,
    until: int | None,
    on_step: Callable[[str, Outcome], None],
) -> None:
    """Train, consolidate and evaluate every task that is not done yet.

    Args:
        context: The run, locked.
        until: Last task; all when ``None``.
        on_step: Told of every step that was made: ``train``, ``build`` or ``evaluate``.

    Raises:
        InputError: If the run has no task ``until``.
        NessError: Whatever a step raises.
    """
    num_tasks = context.stream.num_tasks
    last = num_tasks if until is None else until
    if not 1 <= last <= num_tasks:
        raise InputError(f"--until: {until} is not between 1 and {num_tasks}")
    for number in range(1, last + 1):
        steps = {"train": train_task, "build": build_subspace, "evaluate": evaluate}
        for name, step in steps.items():
            outcome = step(context, number)
            if not outcome.was_skipped:
                on_step(name, outcome)
            context.place.stop.check(
                f"{name} of task {number} is complete", f"ness run --out {context.run.path}"
            )
