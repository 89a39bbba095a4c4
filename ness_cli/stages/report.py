"""Results of one run or several: read, and written to files. Starts without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

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


def report(paths: Sequence[Path]) -> Report:
    """Read runs and group them by experiment.

    Args:
        paths: Run folders, or folders with runs below them at any depth.

    Raises:
        InputError: If a folder is not there, or there is no run at all.
        DamagedError: If a record does not read back.
    """
    found = find_runs(paths)
    runs = tuple(read_run(path) for path in found.runs)
    return Report(runs, tuple(groups(runs)), tuple(found.notes))


def report_format(name: str) -> ReportFormat:
    """Return a format by the name of its file in ``results/formats/``.

    Raises:
        SettingsError: If there is none of that name; names the nearest one.
    """
    found: ReportFormat = load(FORMATS, name, setting="--format")
    return found


def save(found: Report, folder: Path) -> list[Path]:
    """Write a report in all formats that are files: ``report.json``, ``report.md`` ...

    Returns:
        What was written; files of these names that were there are replaced.

    Raises:
        OSError: If the system refuses.
    """
    written = []
    for name in names(FORMATS):
        own = report_format(name)
        if own.SUFFIX:
            path = folder / f"report.{own.SUFFIX}"
            write_bytes(path, own.render(found).encode(), durable=False)
            written.append(path)
    return written
