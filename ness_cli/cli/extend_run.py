"""What ``ness extend`` does: append tasks and show them, or take them back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ness_cli.cli.session import Session
from ness_cli.data.task_stream import SPLITS
from ness_cli.results.plan_tables import tasks_table
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_run_record, read_state
from ness_cli.stages.device import torch_device
from ness_cli.stages.extend import extend, plan_extension, take_back
from ness_cli.words import counted


def extend_run(
    path: Path, preset: str | None, overrides: Sequence[str], workplace: Session, *, dry_run: bool
) -> None:
    """Append tasks to a run, or plan to, and show them."""
    run, console = RunDir(path), workplace.console
    read_run_record(run)  # refuses a folder that is no run before a lock file is put there
    torch_device(workplace)
    if dry_run:
        extended = plan_extension(run, preset, overrides, workplace)
    else:
        with run.lock(console.note):
            extended = extend(run, preset, overrides, workplace)
    following = read_state(run).next_command()
    title = f"{path}, would be added" if dry_run else f"{path}, added"
    console.result(tasks_table(extended.manifest, SPLITS, title))
    for note in extended.notes:
        console.note(note)
    console.document(
        {
            "schema": "ness.extend/1",
            "run": str(path),
            "is_plan": dry_run,
            "typed": list(extended.typed),
            "stream": dict(extended.manifest),
            "notes": list(extended.notes),
            "next": following,
        }
    )
    if not dry_run:
        console.next(following)


def take_back_tasks(path: Path, workplace: Session) -> None:
    """Take back the tasks of the last extension that were not begun, and say which."""
    run, console = RunDir(path), workplace.console
    read_run_record(run)
    with run.lock(console.note):
        gone = take_back(run)
        state = read_state(run)
    which = f"tasks {gone[0]} to {gone[-1]} are" if len(gone) > 1 else f"task {gone[0]} is"
    console.note(f"{which} taken back; {path} has {counted(state.num_tasks, 'task')} now")
    following = state.next_command()
    console.document(
        {
            "schema": "ness.extend/1",
            "run": str(path),
            "taken_back": list(gone),
            "num_tasks": state.num_tasks,
            "next": following,
        }
    )
    console.next(following)
