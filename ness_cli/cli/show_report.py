"""What ``ness report`` does: read, judge, write, show, in this order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import typer

from ness_cli.cli.gates import Announcement
from ness_cli.console import Console
from ness_cli.errors import DamagedError
from ness_cli.plots.picture import INSTALL
from ness_cli.results.gates import Limits, judge
from ness_cli.results.report import Report
from ness_cli.stages import report as stage
from ness_cli.words import counted


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        runs: Run folders, or folders with runs below.
        format_name: Format of what goes to stdout.
        save: Folder for all formats and pictures, ``None`` for none.
        against: What the runs are compared with, ``None`` for nothing.
        explains: Whether formulas and sources are shown.
    """

    runs: tuple[Path, ...]
    format_name: str
    save: Path | None
    against: Path | None
    explains: bool


def show_report(
    request: Request,
    limits: Limits,
    announcement: Announcement,
    console: Console,
    *,
    is_quiet: bool,
) -> None:
    """Show a report, write it where that is asked for, and judge it.

    Raises:
        typer.Exit: With the code of a failed gate, else with that of damage, if a run is damaged.
        NessError: If there is nothing to report.
    """
    format_name = request.format_name
    wanted = stage.report_format(format_name)
    announcement.refuse_without(limits)
    read = stage.report(request.runs, against=request.against, needs_runs=not request.explains)
    found = replace(read, explains=request.explains)
    verdicts = judge(limits, found.runs, found.groups, (*found.left_out, *found.damaged))
    for line in found.left_out:
        console.note(line)
    if request.save is not None:
        _save(found, request.save, console)
    if format_name == "text":
        console.result(found)
    elif format_name == "json":
        passed = {"gates": [each.as_json() for each in verdicts]} if limits else {}
        console.document({**found.document(), **passed})
    else:
        console.plain(wanted.render(found))
    announcement.make(verdicts, console)
    for line in found.damaged if is_quiet or format_name != "text" else ():
        console.complaint(f"left out: {line}")
    if found.damaged:
        raise typer.Exit(DamagedError.exit_code)


def _save(found: Report, folder: Path, console: Console) -> None:
    for path in stage.save(found, folder):
        console.note(f"written: {path}")
    drawn = stage.save_pictures(found, folder, console)
    if drawn:
        console.note(f"drawn: {counted(len(drawn), 'file')} in {drawn[0].parent}")
    else:
        console.note(f"not drawn, matplotlib is not installed: {INSTALL}")
