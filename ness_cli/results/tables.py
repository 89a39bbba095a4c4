"""Tables of results."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group as Lines
from rich.text import Text

from ness_cli.results.accuracy_matrix import AccuracyMatrix
from ness_cli.results.plain_table import plain_table, titled
from ness_cli.results.read_run import RunResult
from ness_cli.results.summary import METRICS, Group, distinct_names
from ness_cli.results.units import human_bytes, human_seconds, percent

_CELL = 6  # "100.0" and a space


def accuracy_table(matrix: AccuracyMatrix, title: str, width: int) -> Lines:
    """Return the accuracy triangle, or one line per task where the triangle does not fit.

    Args:
        matrix: The accuracies.
        title: What they are of.
        width: Columns there are.
    """
    if 8 + _CELL * (matrix.last + 1) > width:
        return _per_task(matrix, title)
    table = plain_table("after", *map(str, range(1, matrix.last + 1)), "mean")
    table.columns[-1].style = "bold"
    for number, row in enumerate(matrix.rows[: matrix.last], start=1):
        cells: list[str | Text] = ["-"] if row is None else [f"{value:.1f}" for value in row]
        if row is not None:
            cells[-1] = Text(f"{row[-1]:.1f}", style="bold")
        mean = "-" if row is None else f"{sum(row) / len(row):.1f}"
        table.add_row(f"task {number}", *cells, *[""] * (matrix.last - len(cells)), mean)
    return titled(title, table)


def _per_task(matrix: AccuracyMatrix, title: str) -> Lines:
    table = plain_table("task", "learned", "final", "change")
    rows = zip(matrix.learned, matrix.final, matrix.changes, strict=True)
    for number, (learned, final, change) in enumerate(rows, start=1):
        shown = "-" if change is None else f"{change:+.2f}"
        table.add_row(str(number), percent(learned), percent(final), shown)
    return titled(title, table)


def comparison_table(runs: Sequence[RunResult]) -> Lines:
    """Return the runs side by side."""
    table = plain_table(
        *("run", "method", "seed", "tasks", "ACC", "BWT", "forgetting", "learned"),
        left=2,
    )
    for run in runs:
        summary = run.by_task.summary()
        table.add_row(
            str(run.path),
            run.about["method"],
            str(run.about["seed"]),
            f"{run.num_done}/{run.state.num_tasks}",
            *(percent(summary[metric]) for metric in METRICS),
        )
    return titled("Task-incremental, %", table)


def class_table(runs: Sequence[RunResult]) -> Lines | None:
    """Return class-incremental results of the runs that have any, or say why not."""
    shown = [run for run in runs if run.by_class.last or run.class_note]
    if not shown:
        return None
    table = plain_table("run", "method", "ACC", "BWT", "forgetting", left=2)
    for run in shown:
        if run.by_class.last:
            summary = run.by_class.summary()
            values = [percent(summary[metric]) for metric in METRICS[:3]]
        else:
            values = ["n/a", "n/a", "n/a"]
        table.add_row(str(run.path), run.about["method"], *values)
    notes = dict.fromkeys(run.class_note for run in shown if run.class_note)
    return titled("Class-incremental, %", table, *notes)


def validation_table(runs: Sequence[RunResult]) -> Lines | None:
    """Return results on validation images of the runs that have any."""
    shown = [run for run in runs if run.by_validation.last]
    if not shown:
        return None
    table = plain_table("run", "method", "ACC", "BWT", "forgetting", "learned", left=2)
    for run in shown:
        summary = run.by_validation.summary()
        table.add_row(
            str(run.path), run.about["method"], *(percent(summary[metric]) for metric in METRICS)
        )
    return titled("On validation images, %", table)


def group_table(found: Sequence[Group]) -> Lines:
    """Return mean ± sample standard deviation over seeds."""
    table = plain_table(
        *("experiment", "seeds", "ACC", "BWT", "forgetting", "learned"),
    )
    for group, name in zip(found, distinct_names(found), strict=True):
        behind = f" ({len(group.seeds_behind)} behind)" if group.seeds_behind else ""
        seeds = f"{len(group.seeds)}{behind}" if len(group.seeds) > 1 else f"1 only{behind}"
        table.add_row(name, seeds, *(str(group.spread(metric)) for metric in METRICS))
    return titled("Mean ± sample standard deviation over seeds, %", table)


def cost_table(runs: Sequence[RunResult]) -> Lines:
    """Return time and bytes of the runs."""
    table = plain_table("run", "train", "build", "evaluate", "memory", "on disk", "peak RAM")
    for run in runs:
        times = [
            human_seconds(sum(s for s in run.seconds(step) if s is not None))
            for step in ("train", "build", "evaluate")
        ]
        memory, peak = run.memory_bytes(), run.peak_memory()
        table.add_row(
            str(run.path),
            *times,
            "-" if memory is None else human_bytes(memory),
            human_bytes(sum(b for b in run.bytes_written() if b is not None)),
            "-" if peak is None else human_bytes(peak),
        )
    determinism = ", ".join(sorted({run.determinism for run in runs}))
    return titled(
        "Time and bytes",
        table,
        f"memory: what the method carries to the next task; determinism: {determinism}",
    )


def steps_table(run: RunResult) -> Lines:
    """Return time and bytes of every step of a run."""
    table = plain_table("task", "train", "build", "evaluate", "bytes written")
    columns = [run.seconds(step) for step in ("train", "build", "evaluate")]
    for number, (*seconds, size) in enumerate(
        zip(*columns, run.bytes_written(), strict=True), start=1
    ):
        cells = ["-" if s is None else human_seconds(s) for s in seconds]
        table.add_row(str(number), *cells, "-" if size is None else human_bytes(size))
    return titled("Per task", table)
