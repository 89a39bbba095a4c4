"""What ``run`` does: every step of every run, then the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ness_cli.cli.jobs import Jobs
from ness_cli.cli.session import Session
from ness_cli.cli.targets import Target, show_notes
from ness_cli.errors import InputError
from ness_cli.processes import num_started
from ness_cli.results.step_tables import step_line
from ness_cli.run_state import read_state
from ness_cli.settings.identity import method_label
from ness_cli.stages.at_work import at_work
from ness_cli.stages.device import torch_device
from ness_cli.stages.outcome import Outcome
from ness_cli.stages.prepare import prepare
from ness_cli.stages.report import report
from ness_cli.stages.run import run_steps
from ness_cli.words import counted


@dataclass(frozen=True)
class Extent:
    """How far runs are brought, and how.

    Attributes:
        until: Last task, which a run must have.
        at_most: Last task, or the last that a run has.
        jobs: Runs at a time, each in a process of its own if there are several.
        force: Make finished steps anew whose inputs or outputs are not what they were.
        verify_data: Compare the images' files with those that the runs were prepared from.
    """

    until: int | None = None
    at_most: int | None = None
    jobs: int = 1
    force: bool = False
    verify_data: bool = False


def run_targets(found: Sequence[Target], workplace: Session, extent: Extent) -> dict[str, Any]:
    """Bring every run to its end, one after another or several at a time, and report on them.

    Returns:
        The command's JSON document.
    """
    if num_started() > 1:
        raise InputError(
            f"run cannot be divided among {num_started()} processes",
            "use torchrun with train-task and build-subspace, or --jobs for several seeds",
        )
    show_notes(found, workplace.console)
    extent = replace(extent, jobs=min(extent.jobs, len(found)))
    if extent.jobs > 1:
        _run_several(found, workplace, extent)
        # They were compared there.
        extent = replace(extent, verify_data=False)
    documents = [_run_one(target, workplace, extent) for target in found]
    result = report([target.run.path for target in found])
    workplace.console.result(result)
    return {"schema": "ness.run-result/1", "runs": documents, "report": result.document()}


def _run_several(found: Sequence[Target], workplace: Session, extent: Extent) -> None:
    """Prepare all runs, then bring them to their end in processes of their own."""
    torch_device(workplace)
    fewest = extent.at_most
    for target in found:
        with target.run.lock():
            prepared = prepare(
                target.run, target.resolved, workplace, verify_data=extent.verify_data
            )
        if fewest is not None:
            fewest = min(fewest, len(prepared.manifest["tasks"]))
    several = Jobs(extent.jobs, extent.until if fewest is None else fewest, extent.force)
    several.bring_to_the_end([target.run for target in found], workplace)


def _run_one(target: Target, workplace: Session, extent: Extent) -> dict[str, Any]:
    """Make every step of a run that is left, and return its part of the document."""
    folder, console = target.run, workplace.console
    steps: list[dict[str, Any]] = []

    def on_step(name: str, outcome: Outcome) -> None:
        console.note(step_line(name, outcome.task, outcome.record, num_tasks))
        steps.append({"step": name, "task": outcome.task})

    with folder.lock(console.note):
        prepare(folder, target.resolved, workplace, verify_data=extent.verify_data)
        with at_work(folder, workplace) as context:
            num_tasks = context.stream.num_tasks
            if extent.jobs == 1:
                method = method_label(context.settings.method.name, context.run_record["identity"])
                console.note(f"{folder.path}: {method} on {counted(num_tasks, 'task')}")
            last = extent.until if extent.at_most is None else min(extent.at_most, num_tasks)
            run_steps(context, until=last, on_step=on_step, force=extent.force)
        following = read_state(folder).next_command()
    if not steps and extent.jobs == 1:
        console.note(f"{folder.path}: nothing to do, all steps are done")
    return {"run": str(folder.path), "steps": steps, "next": following}
