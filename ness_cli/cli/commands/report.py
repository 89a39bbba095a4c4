"""``ness report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ness_cli.cli import completion, gate_options, options
from ness_cli.cli.session import session


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, or folders with runs below.", show_default=False),
    ] = None,
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            help="text, or what other programs read: json, csv, markdown, latex, html. "
            "Only the document goes to stdout.",
            autocompletion=completion.report_formats,
        ),
    ] = "text",
    save: Annotated[
        Path | None,
        typer.Option(
            help="A folder to write report.html, .json, .csv, .md, .tex and plots into, besides.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="A run, or a folder of its seeds, that the others are compared with: differences "
            "over common seeds, with a 95 % interval.",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say what every metric is: formula and source. Needs no runs."
        ),
    ] = False,
    min_acc: gate_options.MinAcc = None,
    min_bwt: gate_options.MinBwt = None,
    max_forgetting: gate_options.MaxForgetting = None,
    baseline: gate_options.Baseline = None,
    tolerance: gate_options.Tolerance = None,
    require_complete: gate_options.RequireComplete = False,
    github: gate_options.Github = False,
    junit: gate_options.Junit = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show accuracies, ACC, BWT, forgetting, time and bytes of one run or several.

    Runs that differ only in their seed are also shown as mean ± sample standard deviation. Works on
    unfinished runs. Of folders that are no runs the runs below count, at any depth. Where one of
    several is damaged the others are shown, and the exit code is 5. With gates, for CI: a line on
    stderr for each that failed, and exit code 3.

    [dim]Examples:[/dim]

      ness report runs/a

      ness report runs/a runs/ft --json

      ness report runs --format latex > table.tex

      ness report runs --save results

      ness report runs --against runs/finetune

      ness report --explain

      ness report runs --min-acc 90 --max-forgetting 2 --require-complete

      ness report runs --baseline report.json --tolerance 0.5 --junit gates.xml
    """
    from ness_cli.cli import show_report
    from ness_cli.cli.gates import Announcement
    from ness_cli.results.gates import Limits

    chosen = "json" if json else format_name
    with session(json=chosen == "json", quiet=quiet) as workplace:
        show_report.show_report(
            show_report.Request(tuple(runs or ()), chosen, save, against, explain),
            Limits(min_acc, min_bwt, max_forgetting, baseline, tolerance, require_complete),
            Announcement(github, junit),
            workplace.console,
            is_quiet=quiet,
        )
