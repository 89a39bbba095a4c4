"""Results of one run or several: read, and written to files. Starts without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ness_cli.console import Progress
from ness_cli.errors import DamagedError, InputError, NessError, SettingsError, SystemRefusedError
from ness_cli.files import write_bytes
from ness_cli.plots.picture import ENDINGS, is_possible
from ness_cli.plots.picture import save as save_picture
from ness_cli.registry import load, names
from ness_cli.results.find_runs import find_runs
from ness_cli.results.read_run import read_run
from ness_cli.results.report import Report
from ness_cli.results.summary import Group, groups

PLOTS = "plots"
"""The folder of pictures inside that of ``--save``."""
FORMATS = "ness_cli.results.formats"


class ReportFormat(Protocol):
    """What a file in ``results/formats/`` has.

    Attributes:
        SUFFIX: Of its file in the folder of ``--save``; empty if it is none.
    """

    SUFFIX: str

    def render(self, report: Report) -> str:
        """Return the report as a whole document."""


def report(
    paths: Sequence[Path], *, against: Path | None = None, needs_runs: bool = True
) -> Report:
    """Read runs and group them by experiment.

    Runs that are damaged are left out where others are not.

    Args:
        paths: Run folders, or folders with runs below them at any depth.
        against: A run, or a folder with runs of one experiment, that others are compared with.
        needs_runs: Refuse to report on none.

    Raises:
        InputError: If a folder is not there, or there is no run at all.
        DamagedError: If no run reads back.
        SettingsError: If ``against`` names runs of several experiments, or no run is named.
    """
    if not paths and not needs_runs:
        return Report((), ())
    if not paths:
        raise SettingsError("no run is named", "name runs, or folders with runs below")
    found = find_runs([*paths, *([] if against is None else [against])])
    runs, damaged = [], list[NessError]()
    for path in found.runs:
        try:
            runs.append(read_run(path))
        except (DamagedError, InputError, SystemRefusedError) as error:
            damaged.append(error)
    if not runs:
        raise damaged[0]
    lines = tuple(f"{error.what}; {error.remedy}" for error in damaged)
    of_seeds = tuple(groups(runs))
    baseline = None if against is None else _group_in(against, of_seeds)
    return Report(tuple(runs), of_seeds, tuple(found.notes), lines, baseline)


def _group_in(folder: Path, found: Sequence[Group]) -> Group:
    """Return the group whose runs lie in a folder."""
    below = {path.resolve() for path in find_runs([folder]).runs}
    own = [g for g in found if any(run.path.resolve() in below for run in g.runs)]
    if len(own) != 1:
        what = "no run that reads back" if not own else f"runs of {len(own)} experiments"
        raise SettingsError(
            f"--against {folder}: {what}, and one experiment is what others are compared with",
            "name one of its runs",
        )
    return own[0]


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
            write_bytes(path, own.render(found).encode())
            written.append(path)
    return written


def save_pictures(found: Report, folder: Path, progress: Progress) -> list[Path]:
    """Draw a report into a folder ``plots``: every picture as PNG, SVG and PDF.

    Args:
        found: The report.
        folder: Where to make that folder. Files of the same names in it are replaced.
        progress: Told of every file.

    Returns:
        What was written; nothing where matplotlib is not installed.

    Raises:
        OSError: If the system refuses.
    """
    # All settings with it; a report that is only read does without.
    from ness_cli.results.experiment_pictures import all_pictures

    drawn = all_pictures(found.groups, found.experiment_names) if is_possible() else []
    written = [folder / PLOTS / f"{each.name}{end}" for each in drawn for end in ENDINGS]
    with progress.track("drawing", len(written)) as advance:
        for path, each in zip(written, (each for each in drawn for _ in ENDINGS), strict=True):
            save_picture(each.picture, path)
            advance()
    return written
