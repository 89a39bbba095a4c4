"""What ``ness fork`` does: make another run, and say what it shares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ness_cli.cli.session import Session
from ness_cli.run_dir import RunDir
from ness_cli.run_state import COMMANDS, read_run_record, read_state
from ness_cli.stages.fork import fork


def fork_run(
    path: Path, out: Path, overrides: Sequence[str], workplace: Session, *, after: int
) -> None:
    """Make a fork of a run and show what it shares."""
    run, other, console = RunDir(path), RunDir(out), workplace.console
    read_run_record(run)  # refuses a folder that is no run before a lock file is put there
    with run.lock(console.note):
        forked = fork(run, other, overrides, workplace, after=after)
    steps = [f"{COMMANDS[step.step]} of task {step.task}" for step in forked.shared]
    for note in forked.notes:
        console.note(note)
    console.note(f"{out} shares with {path}: {', '.join(steps)}")
    following = read_state(other).next_command()
    console.document(
        {
            "schema": "ness.fork/1",
            "run": str(path),
            "fork": str(out),
            "after": after,
            "changed": list(forked.changed),
            "shared": [{"task": s.task, "step": COMMANDS[s.step]} for s in forked.shared],
            "next": following,
        }
    )
    console.next(following)
