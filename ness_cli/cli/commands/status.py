"""``ness status``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ness_cli.cli import options
from ness_cli.cli.session import session


def status(
    runs: options.Runs,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show which steps are done, which are stale and why, and the next command.

    Of folders that are no runs the runs below count, at any depth.

    [dim]Examples:[/dim]

      ness status runs/a

      ness status runs/many --json
    """
    from ness_cli.results.find_runs import find_runs

    with session(json=json, quiet=quiet) as (console, _stop):
        documents = []
        found = find_runs(runs)
        for line in found.notes:
            console.note(line)
        for path in found.runs:
            document, table, following = _status_of(path)
            console.result(table)
            console.next(following)
            documents.append(document)
        console.document({"schema": "ness.status/1", "runs": documents, "left_out": found.notes})


def _status_of(path: Path) -> tuple[dict[str, Any], Any, str]:
    from ness_cli.results.plain_table import plain_table, titled
    from ness_cli.results.task_facts import read_tasks
    from ness_cli.run_dir import RunDir
    from ness_cli.run_state import COMMANDS, STEPS, read_state

    state = read_state(RunDir(path))
    tasks = read_tasks(RunDir(path), state.num_tasks)
    names = ["name"] * any(facts.words for facts in tasks)
    table = plain_table("task", *names, *(COMMANDS[step] for step in STEPS), left=5)
    notes = []
    for facts in tasks:
        task = facts.number
        steps = [state.of(task, step) for step in STEPS]
        table.add_row(str(task), *[facts.label(30) for _ in names], *(s.status for s in steps))
        notes += [f"task {task}, {COMMANDS[s.step]}: stale, {s.why}" for s in steps if s.why]
    following = state.next_command()
    document = {
        "run": str(path),
        "num_tasks": state.num_tasks,
        "steps": [
            {"task": s.task, "step": COMMANDS[s.step], "status": s.status, "why": s.why}
            for s in state.steps
        ],
        "complete": state.next() is None,
        "next": following,
    }
    return document, titled(str(path), table, *notes), following
