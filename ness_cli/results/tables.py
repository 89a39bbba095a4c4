"""Tables of results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ness_cli.results.accuracy_matrix import AccuracyMatrix
from ness_cli.results.margins import Margins
from ness_cli.results.metrics import BETTER
from ness_cli.results.number_formats import percent
from ness_cli.results.read_run import RunResult
from ness_cli.results.run_metrics import UPPER_BOUND, Values, stream_of
from ness_cli.results.run_names import RunNames
from ness_cli.results.summary import METRICS, Group, short_names
from ness_cli.results.table import Cell, Table, plain_table, titled
from ness_cli.results.task_facts import TaskFacts
from ness_cli.words import fixed, tasks_in_words

_CELL = 6  # "100.0" and a space
_ROW, _NAMED_ROW = 8, 15  # "task 10 ", and what a name needs
MARGIN = "±95%"
_FORK_NOTE = "fork: no independent run, it shares the training of its first tasks"
_FWT_NOTE = "FWT: accuracy on tasks before they are learned, above guessing"
_INTRANSIGENCE_NOTE = "intransigence: below joint training when a task was just learned"
MARGIN_NOTE = f"{MARGIN}: half of the 95 % Wilson interval, from the number of test images"


def accuracy_table(
    matrix: AccuracyMatrix,
    title: str,
    width: int,
    tasks: Sequence[TaskFacts] = (),
    margins: Margins | None = None,
) -> Table:
    """Return the accuracy triangle, or one line per task where the triangle does not fit.

    Args:
        matrix: The accuracies.
        title: What they are of.
        width: Columns there are.
        tasks: What is known of the tasks, in their order; nothing if empty.
        margins: Of the last row.
    """
    known = list(tasks[: matrix.last]) or [TaskFacts(t) for t in range(1, matrix.last + 1)]
    space = width - _CELL * (matrix.last + 1)
    if space < _ROW:
        return _per_task(matrix, title, known, margins)
    table = plain_table("after", *map(str, range(1, matrix.last + 1)), "mean")
    table.columns[-1].is_bold = True
    has_names = space >= _NAMED_ROW
    for facts, row in zip(known, matrix.rows, strict=False):
        table.add_row(_row_label(facts, space if has_names else 0), *_cells(row, matrix.last))
    if margins is not None:
        numbers = (f"{value:.1f}" for value in (*margins.tasks, margins.mean))
        table.add_row(MARGIN, *numbers, is_faint=True)
    return titled(title, table)


def names_below(matrix: AccuracyMatrix, tasks: Sequence[TaskFacts], width: int) -> str:
    """Return the names of the tasks where the rows of the triangle have no room for them."""
    space = width - _CELL * (matrix.last + 1)
    if not _ROW <= space < _NAMED_ROW:
        return ""
    named = [f"{t.number}: {t.label(24)}" for t in tasks[: matrix.last] if t.words]
    return f"tasks: {'; '.join(named)}" if named else ""


def _row_label(facts: TaskFacts, space: int) -> str:
    if not facts.words or not space:
        return f"task {facts.number}"
    return f"{facts.number}: {facts.label(space - len('10: ') - 2)}"


def _cells(row: Sequence[float | None] | None, num_tasks: int) -> list[str | Cell]:
    """Return a row of the triangle and its mean."""
    if row is None:
        return ["-", *[""] * (num_tasks - 1), "-"]
    cells = [Cell("-" if value is None else f"{value:.1f}", value) for value in row]
    cells[-1] = replace(cells[-1], is_bold=True)
    known = [value for value in row if value is not None]
    return [*cells, *[""] * (num_tasks - len(row)), f"{sum(known) / len(known):.1f}"]


def _per_task(
    matrix: AccuracyMatrix, title: str, tasks: Sequence[TaskFacts], margins: Margins | None
) -> Table:
    has_names = any(facts.words for facts in tasks)
    columns = ["task", *["name"] * has_names, "learned", "final"]
    columns += [*[MARGIN] * (margins is not None), "change"]
    table = plain_table(*columns, left=1 + has_names)
    rows = zip(matrix.learned, matrix.final, matrix.changes, strict=True)
    for index, (learned, final, change) in enumerate(rows):
        cells = [str(index + 1), *[tasks[index].label(36)] * has_names]
        cells += [percent(learned), percent(final)]
        cells += [] if margins is None else [f"{margins.tasks[index]:.1f}"]
        table.add_row(*cells, "-" if change is None else fixed(change, signed=True))
    return titled(title, table)


def comparison_table(runs: Sequence[RunResult], names: RunNames) -> Table:
    """Return the runs side by side."""
    table = plain_table(
        *("run", "method", "seed", "tasks", "ACC", "BWT", "forgetting", "learned"),
        left=2,
    )
    _mark_better(table, METRICS, runs)
    for run in runs:
        summary = run.task_incremental.summary()
        table.add_row(
            names.name(run.path),
            run.method + ", fork" * run.is_fork,
            str(run.record["seed"]),
            f"{run.num_done}/{run.state.num_tasks}",
            *_percents(summary, METRICS, run),
        )
    scopes = [_scope(run, run.task_incremental, names) for run in runs]
    fork_note = _FORK_NOTE if any(run.is_fork for run in runs) else ""
    return titled(names.title("Task-incremental, %"), table, *scopes, fork_note)


def class_table(runs: Sequence[RunResult], names: RunNames) -> Table | None:
    """Return class-incremental results of the runs that have any, or say why not."""
    shown = [run for run in runs if run.class_incremental.last or run.class_note]
    if not shown:
        return None
    table = plain_table("run", "method", "ACC", "BWT", "forgetting", left=2)
    _mark_better(table, METRICS[:3], shown)
    for run in shown:
        summary = run.class_incremental.summary()
        found = _percents(summary, METRICS[:3], run)
        values = found if run.class_incremental.last else [Cell("n/a")] * 3
        table.add_row(names.name(run.path), run.method, *values)
    notes = dict.fromkeys(run.class_note for run in shown if run.class_note)
    scopes = [_scope(run, run.class_incremental, names) for run in shown]
    return titled(names.title("Class-incremental, %"), table, *notes, *scopes)


def validation_table(runs: Sequence[RunResult], names: RunNames) -> Table | None:
    """Return results on validation images of the runs that have any."""
    shown = [run for run in runs if run.validation.last]
    if not shown:
        return None
    table = plain_table("run", "method", "ACC", "BWT", "forgetting", "learned", left=2)
    _mark_better(table, METRICS, shown)
    for run in shown:
        values = _percents(run.validation.summary(), METRICS, run)
        table.add_row(names.name(run.path), run.method, *values)
    scopes = [_scope(run, run.validation, names) for run in shown]
    return titled(names.title("On validation images, %"), table, *scopes)


def transfer_table(
    runs: Sequence[RunResult], found: Sequence[Values], names: RunNames
) -> Table | None:
    """Return what runs transfer forward and fail to learn, if it is known of any."""
    metrics = [m for m in ("fwt", "intransigence") if any(own[m] is not None for own in found)]
    if not metrics:
        return None
    heads = {"fwt": "FWT", "intransigence": "intransigence"}
    table = plain_table("run", "method", *(heads[metric] for metric in metrics), left=2)
    _mark_better(table, metrics, runs)
    for run, own in zip(runs, found, strict=True):
        if any(own[metric] is not None for metric in metrics):
            table.add_row(names.name(run.path), run.method, *_percents(own, metrics, run))
    notes = {"fwt": _FWT_NOTE, "intransigence": _INTRANSIGENCE_NOTE}
    title = names.title("Transfer forward, and what was not learned, points")
    return titled(title, table, *(notes[metric] for metric in metrics))


def _mark_better(table: Table, metrics: Sequence[str], runs: Sequence[RunResult]) -> None:
    """Say of the last columns, which have these metrics, whether more is better.

    Only where the best run means something: each is of another experiment, and all of them have
    learned the same tasks, equally far. The best of several seeds would be luck.
    """
    experiments = {
        json.dumps({k: v for k, v in run.record["identity"].items() if k != "seed"}, sort_keys=True)
        for run in runs
    }
    learned = [[stream_of(run), run.task_incremental.last] for run in runs]
    if len(experiments) == len(runs) and all(each == learned[0] for each in learned):
        for column, metric in zip(table.columns[-len(metrics) :], metrics, strict=True):
            column.better = BETTER[metric]


def _percents(
    summary: Mapping[str, float | None], metrics: Sequence[str], run: RunResult
) -> list[Cell]:
    """Return the metrics of a run; training on all data is no rival of any other."""
    values = [(percent(summary[metric]), summary[metric]) for metric in metrics]
    is_bound = run.record["method"] == UPPER_BOUND
    return [Cell(text, None if is_bound else value) for text, value in values]


def _scope(run: RunResult, matrix: AccuracyMatrix, names: RunNames) -> str:
    """Return over which tasks the means of a run are that was extended; nothing of any other."""
    added = [t for each in run.extensions for t in range(each.first_task, each.last_task + 1)]
    if not added or not matrix.last:
        return ""
    later = [t for t in added if t <= matrix.last]
    gone = [t for t in range(1, matrix.last + 1) if t not in matrix.scored]
    parts = [f"{names.in_one_line(run.path)}: means are over {tasks_in_words(matrix.scored)}"]
    parts += [f"{tasks_in_words(later)} added later"] * bool(later)
    parts += [f"the images of {tasks_in_words(gone)} are gone"] * bool(gone)
    return "; ".join(parts)


def group_table(found: Sequence[Group]) -> Table:
    """Return mean ± sample standard deviation over seeds."""
    table = plain_table(
        *("experiment", "seeds", "ACC", "BWT", "forgetting", "learned"),
    )
    _mark_better(table, METRICS, [group.furthest[0] for group in found])
    names, preset = short_names(found)
    for group, name in zip(found, names, strict=True):
        behind = f" ({len(group.seeds_behind)} behind)" if group.seeds_behind else ""
        seeds = f"{len(group.seeds)}{behind}" if len(group.seeds) > 1 else f"1 only{behind}"
        spreads = [group.spread(metric) for metric in METRICS]
        is_bound = group.runs[0].record["method"] == UPPER_BOUND
        values = [Cell(str(spread), None if is_bound else spread.mean) for spread in spreads]
        table.add_row(name, seeds, *values)
    return titled(f"Mean ± sample standard deviation over seeds, %{preset}", table)
