"""``ness status``."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session


def status(
    runs: options.Runs,
    watching: Annotated[
        bool,
        typer.Option("--watch", help="Show how they go on, until all are done; end it by Ctrl-C."),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show which steps are done, which are stale and why, and the next command.

    Of folders that are no runs the runs below count, at any depth. With --watch: accuracy so far,
    epoch, time left, memory, and whether a process works on a run at all.

    [dim]Examples:[/dim]

      ness status runs/a

      ness status runs/many --json

      ness status runs --watch
    """
    from ness_cli.cli.watch import watch
    from ness_cli.results.find_runs import find_runs
    from ness_cli.results.run_status import read_status

    with session(json=json, quiet=quiet) as workplace:
        if watching:
            watch(runs, workplace)
        documents = []
        found = find_runs(runs)
        for line in found.notes:
            workplace.console.note(line)
        for path in found.runs:
            run_status = read_status(path)
            workplace.console.result(run_status.table())
            workplace.console.next(run_status.state.next_command())
            documents.append(run_status.document())
        workplace.console.document(
            {"schema": "ness.status/1", "runs": documents, "left_out": found.notes}
        )
