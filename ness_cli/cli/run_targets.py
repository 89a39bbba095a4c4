"""What ``run`` does: every step of every run, then the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ness_cli import world
from ness_cli.cli.jobs import Jobs
from ness_cli.cli.session import cache_dir
from ness_cli.cli.targets import Target
from ness_cli.console import Console
from ness_cli.errors import InputError
from ness_cli.results.step_tables import step_line
from ness_cli.run_state import read_state
from ness_cli.settings.identity import method_label
from ness_cli.stages.context import RunContext
from ness_cli.stages.device import torch_device
from ness_cli.stages.outcome import Outcome
from ness_cli.stages.prepare import prepare
from ness_cli.stages.report import report
from ness_cli.stages.run import run_steps
from ness_cli.stop import StopRequest
from ness_cli.words import counted
from ness_cli.workplace import Workplace


def run_targets(
    found: Sequence[Target],
    console: Console,
    stop: StopRequest,
    *,
    until: int | None,
    device: str,
    threads: int | None,
    at_most: int | None = None,
    jobs: int = 1,
    force: bool = False,
    verify_data: bool = False,
) -> dict[str, Any]:
    """Bring every run to its end, one after another or ``jobs`` at a time, and report on them.

    Args:
        found: The runs.
        console: Told of everything.
        stop: Asked whether to stop.
        until: Last task, which a run must have.
        device: Device by name.
        threads: CPU threads.
        at_most: Last task, or the last that a run has.
        jobs: Runs at a time, each in a process of its own if there are several.
        force: Make finished steps anew whose inputs or outputs are not what they were.
        verify_data: Compare the images' files with those that the runs were prepared from.

    Returns:
        The command's JSON document.
    """
    if world.asked_for() > 1:
        raise InputError(
            f"run cannot be divided among {world.asked_for()} processes",
            "use torchrun with train-task and build-subspace, or --jobs for several seeds",
        )
    place = Workplace(cache_dir(), device, threads, console, stop)
    documents: list[dict[str, Any]] = []
    jobs = min(jobs, len(found))
    if jobs > 1:
        torch_device(place)
        fewest = at_most
        for target in found:
            with target.run.lock():
                prepared = prepare(target.run, target.resolved, place, verify_data=verify_data)
            if fewest is not None:
                fewest = min(fewest, len(prepared.manifest["tasks"]))
        several = Jobs(jobs, device, threads, until if fewest is None else fewest, force)
        several.bring_to_the_end([target.run for target in found], console, stop)
    for target in found:
        folder = target.run
        steps: list[dict[str, Any]] = []
        with folder.lock():
            # Several at a time were compared above.
            prepare(target.run, target.resolved, place, verify_data=verify_data and jobs == 1)
            context = RunContext(folder, place)
            num_tasks = context.stream.num_tasks
            if jobs == 1:
                method = method_label(context.settings.method.name, context.about["identity"])
                console.note(f"{folder.path}: {method} on {counted(num_tasks, 'task')}")

            def on_step(
                name: str, outcome: Outcome, *, total: int = num_tasks, into: Any = steps
            ) -> None:
                console.note(step_line(name, outcome.task, outcome.record, total))
                into.append({"step": name, "task": outcome.task})

            last = until if at_most is None else min(at_most, num_tasks)
            run_steps(context, until=last, on_step=on_step, force=force)
            following = read_state(folder).next_command()
        if not steps and jobs == 1:
            console.note(f"{folder.path}: nothing to do, all steps are done")
        documents.append({"run": str(folder.path), "steps": steps, "next": following})
    result = report([target.run.path for target in found])
    for renderable in result.renderables(console.width):
        console.result(renderable)
    return {"schema": "ness.run-result/1", "runs": documents, "report": result.document()}
