"""``ness report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ness_cli.cli import completion, options
from ness_cli.cli.session import session


def report(
    runs: options.Runs,
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            help="text, or what other programs read: json, csv, markdown, latex. "
            "Only the document goes to stdout.",
            autocompletion=completion.report_formats,
        ),
    ] = "text",
    save: Annotated[
        Path | None,
        typer.Option(
            help="A folder to write report.json, .csv, .md, .tex into, besides.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show accuracies, ACC, BWT, forgetting, time and bytes of one run or several.

    Runs that differ only in their seed are also shown as mean ± sample standard deviation. Works on
    unfinished runs. Of folders that are no runs the runs below count, at any depth.

    [dim]Examples:[/dim]

      ness report runs/a

      ness report runs/a runs/ft --json

      ness report runs --format latex > table.tex

      ness report runs --save results
    """
    from ness_cli.stages import report as stage

    chosen = "json" if json else format_name
    with session(json=chosen == "json", quiet=quiet) as workplace:
        console = workplace.console
        wanted = stage.report_format(chosen)
        found = stage.report(runs)
        for line in found.left_out:
            console.note(line)
        if save is not None:
            for path in stage.save(found, save):
                console.note(f"written: {path}")
        if chosen == "text":
            console.result(found)
        elif chosen == "json":
            console.document(found.document())
        else:
            console.plain(wanted.render(found))
