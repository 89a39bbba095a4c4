"""Results of one run or several: read, and written to files. Starts without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ness_cli.errors import DamagedError, SettingsError
from ness_cli.files import write_bytes
from ness_cli.registry import load, names
from ness_cli.results.find_runs import find_runs
from ness_cli.results.read_run import read_run
from ness_cli.results.report import Report
from ness_cli.results.summary import groups

FORMATS = "ness_cli.results.formats"


class ReportFormat(Protocol):
    """What a file in ``results/formats/`` has.

    Attributes:
        SUFFIX: Of its file in the folder of ``--save``; empty if it is none.
    """

    SUFFIX: str

    def render(self, report: Report) -> str:
        """Return the report as a whole document."""


def report(paths: Sequence[Path], *, needs_runs: bool = True) -> Report:
    """Read runs and group them by experiment.

    Runs that are damaged are left out where others are not.

    Args:
        paths: Run folders, or folders with runs below them at any depth.
        needs_runs: Refuse to report on none.

    Raises:
        InputError: If a folder is not there, or there is no run at all.
        DamagedError: If no run reads back.
    """
    if not paths and not needs_runs:
        return Report((), ())
    if not paths:
        raise SettingsError("no run is named", "name runs, or folders with runs below")
    found = find_runs(paths)
    runs, damaged = [], []
    for path in found.runs:
        try:
            runs.append(read_run(path))
        except DamagedError as error:
            damaged.append(error)
    if not runs:
        raise damaged[0]
    lines = tuple(f"{error.what}; {error.remedy}" for error in damaged)
    return Report(tuple(runs), tuple(groups(runs)), tuple(found.notes), damaged=lines)


def report_format(name: str) -> ReportFormat:
    """Return a format by the name of its file in ``results/formats/``.

    Raises:
        SettingsError: If there is none of that name; names the nearest one.
    """
    found: ReportFormat = load(FORMATS, name, setting="--format")
    return found


def save(found: Report, folder: Path, stem: str = "report") -> list[Path]:
    """Write a report in all formats that are files: ``report.json``, ``report.md`` ...

    Args:
        found: The report.
        folder: Where to write.
        stem: What the files are called.

    Returns:
        What was written; files of these names that were there are replaced.

    Raises:
        OSError: If the system refuses.
    """
    written = []
    for name in names(FORMATS):
        own = report_format(name)
        if own.SUFFIX:
            path = folder / f"{stem}.{own.SUFFIX}"
            write_bytes(path, own.render(found).encode(), durable=False)
            written.append(path)
    return written
