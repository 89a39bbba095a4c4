"""What ``ness prepare`` does: prepare every run and show its tasks."""

from __future__ import annotations

from collections.abc import Sequence

from ness_cli.cli.session import Session
from ness_cli.cli.targets import Target, show_notes
from ness_cli.data.task_stream import SPLITS
from ness_cli.results.plan_tables import tasks_table
from ness_cli.run_state import read_state
from ness_cli.stages.device import torch_device
from ness_cli.stages.prepare import prepare


def prepare_targets(found: Sequence[Target], workplace: Session, *, verify_data: bool) -> None:
    """Prepare every run and show its tasks."""
    console = workplace.console
    torch_device(workplace)  # refused before a lock file is put anywhere
    show_notes(found, console)
    documents = []
    for target in found:
        run = target.run
        with run.lock(console.note):
            prepared = prepare(run, target.resolved, workplace, verify_data=verify_data)
            following = read_state(run).next_command()
        if prepared.was_there:
            files = " and from the same files" if prepared.was_compared else ""
            console.note(f"{run.path} was prepared before with the same settings{files}")
        console.result(tasks_table(prepared.manifest, SPLITS, str(run.path)))
        console.next(following)
        documents.append(
            {
                "run": str(run.path),
                "was_there": prepared.was_there,
                "was_compared": prepared.was_compared,
                "about": dict(prepared.record),
                "stream": dict(prepared.manifest),
                "next": following,
            }
        )
        workplace.stop.check(f"{run.path} is prepared", "the same command")
    console.document({"schema": "ness.prepare/1", "runs": documents})
