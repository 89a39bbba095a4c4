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
    unfinished runs. Of folders that are no runs the runs below count, at any depth.

    [dim]Examples:[/dim]

      ness report runs/a

      ness report runs/a runs/ft --json

      ness report runs
    """
    from ness_cli.stages.report import report as make_report

    with session(json=json, quiet=quiet) as workplace:
        result = make_report(runs)
        for line in result.left_out:
            workplace.console.note(line)
        for renderable in result.renderables(workplace.console.width):
            workplace.console.result(renderable)
        workplace.console.document(result.document())
