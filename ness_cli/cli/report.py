"""``ness report``."""

from __future__ import annotations

from ness_cli.cli import options
from ness_cli.cli.session import session


def report(
    runs: options.Runs,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show accuracies, ACC, BWT, forgetting, time and bytes of one run or several.

    Runs that differ only in their seed are also shown as mean ± sample standard deviation. Works on
    unfinished runs.

    [dim]Examples:[/dim]

      ness report runs/a

      ness report runs/a runs/ft --json
    """
    from ness_cli.stages.report import report as make_report

    with session(json=json, quiet=quiet) as (console, _stop):
        result = make_report(runs)
        for renderable in result.renderables(console.width):
            console.result(renderable)
        console.document(result.document())
