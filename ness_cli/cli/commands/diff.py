"""``ness diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session

_HELP = "A run, or a folder with the seeds of one experiment."


def diff(
    first: Annotated[Path, typer.Argument(help=_HELP, show_default=False)],
    second: Annotated[Path, typer.Argument(help=_HELP, show_default=False)],
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show in which settings two runs differ, and what that did to accuracies, bytes, seconds.

    Of folders with several seeds means are shown, and differences seed by seed with a 95 %
    interval. Runs that have come unequally far are compared after the last task of both.

    [dim]Examples:[/dim]

      ness diff runs/a runs/b

      ness diff runs/ness runs/gpm --json
    """
    from ness_cli.results.table import apart
    from ness_cli.stages.diff import diff as compare

    with session(json=json, quiet=quiet) as workplace:
        found = compare(first, second)
        for part in apart(found.parts()):
            workplace.console.result(part)
        workplace.console.document(found.document())
