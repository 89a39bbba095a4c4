"""``ness report``."""

from __future__ import annotations

from dataclasses import replace
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
    from ness_cli.cli.gates import Announcement
    from ness_cli.errors import DamagedError
    from ness_cli.plots.picture import INSTALL
    from ness_cli.results.gates import Limits, judge
    from ness_cli.stages import report as stage
    from ness_cli.words import counted

    chosen = "json" if json else format_name
    with session(json=chosen == "json", quiet=quiet) as workplace:
        console = workplace.console
        wanted = stage.report_format(chosen)
        limits = Limits(min_acc, min_bwt, max_forgetting, baseline, tolerance, require_complete)
        announcement = Announcement(github, junit)
        announcement.refuse_without(limits)
        read = stage.report(runs or [], against=against, needs_runs=not explain)
        found = replace(read, explains=explain)
        left_out = (*found.left_out, *found.damaged)
        verdicts = judge(limits, found.runs, found.groups, left_out)
        for line in found.left_out:
            console.note(line)
        if save is not None:
            for path in stage.save(found, save):
                console.note(f"written: {path}")
            drawn = stage.save_pictures(found, save, console)
            if drawn:
                console.note(f"drawn: {counted(len(drawn), 'file')} in {drawn[0].parent}")
            else:
                console.note(f"not drawn, matplotlib is not installed: {INSTALL}")
        if chosen == "text":
            console.result(found)
        elif chosen == "json":
            passed = {"gates": [each.as_json() for each in verdicts]} if limits else {}
            console.document({**found.document(), **passed})
        else:
            console.plain(wanted.render(found))
        announcement.make(verdicts, console)
        for line in found.damaged if quiet or chosen != "text" else ():
            console.complaint(f"left out: {line}")
        if found.damaged:
            raise typer.Exit(DamagedError.exit_code)
