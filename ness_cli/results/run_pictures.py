"""Pictures of one run: what it knows, how it learned, what room it has left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ness_cli.errors import DamagedError
from ness_cli.plots.accuracy_matrix import accuracy_matrix
from ness_cli.plots.accuracy_over_tasks import accuracy_over_tasks
from ness_cli.plots.heat_map import HeatMap
from ness_cli.plots.picture import Picture
from ness_cli.plots.progress import Progress
from ness_cli.plots.room import room
from ness_cli.plots.spectra import Spectra
from ness_cli.plots.task_lines import TaskLine
from ness_cli.plots.training_curves import TrainingCurves
from ness_cli.results.accuracy_matrix import Row
from ness_cli.results.history import read_history
from ness_cli.results.read_run import RunResult
from ness_cli.words import fixed

_NAME_WIDTH = 20  # of a task beside its row
_SPECTRUM_FILE = "basis"  # of every method that keeps spectra


def run_name(run: RunResult) -> str:
    """Return what pictures call a run; its folder is no part of it, so that it may be moved."""
    return f"{run.record['preset']}, {run.method}, seed {run.record['seed']}"


def progress(run: RunResult) -> Progress:
    """Return the picture of how far a run has come."""
    matrix = run.task_incremental
    title = f"{run_name(run)}: {matrix.last} of {run.state.num_tasks} tasks"
    for name, value in (("ACC", matrix.acc), ("BWT", matrix.bwt)):
        title += f", {name} {fixed(value, 1)}" if value is not None else ""
    seen = TaskLine("", means_over_tasks(run))
    parts: list[Picture | None] = [accuracies(run, ""), accuracy_over_tasks([seen])]
    parts += [curves(run, ""), room_left(run, "")]
    return Progress(title, [part for part in parts if part is not None])


def accuracies(run: RunResult, whose: str) -> HeatMap:
    """Return the picture of a run's accuracy matrix."""
    matrix = run.task_incremental
    names = [task.label(_NAME_WIDTH) for task in run.tasks[: matrix.last]]
    return accuracy_matrix(whose, matrix.rows[: matrix.last], names if any(names) else ())


def means_over_tasks(run: RunResult) -> list[float | None]:
    """Return the mean of every row of accuracies over the tasks that it has, percent."""
    matrix = run.task_incremental
    return [None if row is None else _mean(row) for row in matrix.rows[: matrix.last]]


def curves(run: RunResult, whose: str) -> TrainingCurves | None:
    """Return the picture of a run's training; ``None`` where no epoch was recorded.

    Raises:
        DamagedError: If what was recorded of an epoch does not read back.
    """
    tasks = range(1, run.state.num_tasks + 1)
    found = {t: own for t in tasks if (own := read_history(run.state.run.task(t).history))}
    return TrainingCurves(whose, found) if found else None


def room_left(run: RunResult, whose: str) -> HeatMap | None:
    """Return the picture of the room in a run's layers; ``None`` where its method has no such."""
    found = {}
    for task, record in enumerate(run.records("build"), start=1):
        rows = {row["layer"]: row["free_percent"] for row in record.get("layers", [])}
        if rows:
            found[task] = rows
    return room(whose, found) if found else None


def spectra(run: RunResult, whose: str) -> Spectra | None:
    """Return the picture of the spectra of a run's layers; ``None`` where it keeps none.

    Raises:
        DamagedError: If a file of them does not read back.
    """
    found = {}
    for task, record in enumerate(run.records("build"), start=1):
        layers = [row["layer"] for row in record.get("layers", [])]
        if own := _spectra_after(run, task, layers):
            found[task] = own
    return Spectra(whose, found) if found else None


def _mean(row: Row) -> float | None:
    known = [value for value in row if value is not None]
    return sum(known) / len(known) if known else None


def _spectra_after(run: RunResult, task: int, layers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return sigma (ascending) and tau of layers after a task, read without torch."""
    path = run.state.run.task(task).tensors(_SPECTRUM_FILE)
    if not path.exists():
        return {}
    # They take a moment, and most reports do without.
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            names = set(file.keys())
            return {
                layer: {
                    "sigma": file.get_tensor(f"{layer}.sigma").tolist(),
                    "tau": float(file.get_tensor(f"{layer}.tau")),
                }
                for layer in layers
                if f"{layer}.sigma" in names
            }
    except (OSError, SafetensorError) as error:
        raise DamagedError(f"{path} is damaged: {error}", f"see: ness verify {run.path}") from error
