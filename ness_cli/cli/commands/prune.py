"""``ness prune``."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session


def prune(
    run: options.Run,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing, show what would be removed.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove files that no later step needs, as storage.keep=latest does while a run is made.

    Models that follow from the first one and the updates go too; they are put together again, to
    the bit, when they are asked for. What tasks without accuracies need stays.

    [dim]Examples:[/dim]

      ness prune runs/a --dry-run

      ness prune runs/a
    """
    from ness_cli.results.storage_tables import removal_table
    from ness_cli.run_dir import RunDir
    from ness_cli.run_state import read_run_record
    from ness_cli.stages.context import RunContext
    from ness_cli.stages.prune import prune as remove_older

    with session(json=json, quiet=quiet, device="cpu") as workplace:
        folder = RunDir(run)
        read_run_record(folder)  # refuses a folder that is no run before a lock file is put there
        with folder.lock(workplace.console.note):
            removed = remove_older(RunContext(folder, workplace), is_dry=dry_run)
        verb = "would be removed" if dry_run else "removed"
        workplace.console.result(removal_table(removed, f"{run}: {verb}"))
        workplace.console.document(
            {
                "schema": "ness.prune/1",
                "run": str(run),
                "removed": removed,
                "bytes": sum(removed.values()),
                "dry_run": dry_run,
            }
        )
