"""``ness cache``: the prepared images that runs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session

app = typer.Typer(no_args_is_help=True, help="Show and free the prepared images that runs share.")


@app.command("ls")
def ls(json: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the prepared images in the cache: data source, tasks, images, size.

    [dim]Example:[/dim]

      ness cache ls
    """
    from ness_cli.results.storage_tables import cache_table
    from ness_cli.stages.prepared_data import prepared_streams, raise_refusal

    with session(json=json, quiet=quiet) as workplace:
        found = prepared_streams(workplace.cache)
        streams = [each.as_json() for each in found]
        total = sum(each["bytes"] for each in streams)
        workplace.console.result(cache_table(streams, str(workplace.cache)))
        workplace.console.document(
            {
                "schema": "ness.cache/1",
                "cache": str(workplace.cache),
                "streams": streams,
                "bytes": total,
            }
        )
        raise_refusal(found)


@app.command("prune")
def prune(
    runs: Annotated[
        list[Path],
        typer.Option(help="Runs that keep their images, or folders of runs.", show_default=False),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing, show what would be removed.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove prepared images that none of the named runs needs.

    Runs in folders that are not named count for nothing: their images are prepared again from the
    source when they need them, if it is still there.

    [dim]Examples:[/dim]

      ness cache prune --runs runs --dry-run

      ness cache prune --runs runs --runs /data/more-runs
    """
    from ness_cli.results.find_runs import find_runs
    from ness_cli.results.storage_tables import cache_table
    from ness_cli.stages.prepared_data import (
        needed_folders,
        prepared_streams,
        raise_refusal,
        remove,
    )

    with session(json=json, quiet=quiet) as workplace:
        console, found = workplace.console, find_runs(runs)
        for line in found.notes:
            console.note(line)
        needed = needed_folders(found.runs)
        idle = [s for s in prepared_streams(workplace.cache) if s.folder.name not in needed]
        spare = [each for each in idle if each.refused is None]
        busy = [] if dry_run else [each for each in spare if not remove(each)]
        for each in busy:
            console.note(f"{each.folder} is being prepared, and stays")
        gone = [each.as_json() for each in spare if each not in busy]
        verb = "would be removed" if dry_run else "removed"
        title = f"{verb}, needed by none of {len(found.runs)} runs"
        console.result(cache_table(gone, title))
        console.document(
            {
                "schema": "ness.cache-prune/1",
                "cache": str(workplace.cache),
                "runs": list(map(str, found.runs)),
                "removed": gone,
                "dry_run": dry_run,
                "bytes": sum(each["bytes"] for each in gone),
            }
        )
        raise_refusal(idle)
