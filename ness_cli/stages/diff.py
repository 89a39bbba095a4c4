"""Two experiments side by side, from their records. Starts without torch."""

from __future__ import annotations

from pathlib import Path

from ness_cli.errors import InputError, SettingsError
from ness_cli.results.find_runs import find_runs
from ness_cli.results.read_run import read_run
from ness_cli.results.run_diff import RunDiff, compare_groups
from ness_cli.results.summary import Group, groups


def diff(first: Path, second: Path) -> RunDiff:
    """Return in which settings two experiments differ, and what that did.

    Args:
        first: A run, or a folder with the seeds of one experiment.
        second: Likewise.

    Raises:
        InputError: If there is no run, or none that was evaluated.
        DamagedError: If a record does not read back.
        SettingsError: If a folder has runs of several experiments.
    """
    found = [experiment(path) for path in (first, second)]
    return compare_groups(found[0], found[1], (str(first), str(second)))


def experiment(folder: Path) -> Group:
    """Return the evaluated runs in a folder, which must be of one experiment.

    Raises:
        InputError: If there is no run, or none that was evaluated.
        DamagedError: If a record does not read back.
        SettingsError: If there are several experiments.
    """
    runs = [read_run(path) for path in find_runs([folder]).runs]
    evaluated = [run for run in runs if run.task_incremental.last]
    if not evaluated:
        raise InputError(
            f"{folder}: no task is evaluated yet", f"run: {runs[0].state.next_command()}"
        )
    found = groups(evaluated)
    if len(found) > 1:
        raise SettingsError(
            f"{folder} has runs of {len(found)} experiments, and two are compared",
            "name a run, or a folder with the seeds of one experiment",
        )
    return found[0]
