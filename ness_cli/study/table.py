"""The table of a study: a line per row, means over its seeds, and what was not run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ness_cli.errors import DamagedError
from ness_cli.results.costs import costs
from ness_cli.results.find_runs import find_runs
from ness_cli.results.number_formats import human_bytes
from ness_cli.results.read_run import RunResult, read_run
from ness_cli.results.report import Report
from ness_cli.results.summary import Group, Spread
from ness_cli.results.table import Cell, Paragraph, Table, plain_table, titled
from ness_cli.study.plan import PlannedRun, StudyPlan, is_begun, rows_named
from ness_cli.words import counted

_SEED = "seed-"
_METRICS = {"ACC": "acc", "BWT": "bwt", "learned": "learning_accuracy"}
_WIDE = 150  # columns that one table with the validation images takes


@dataclass(frozen=True)
class RowResult:
    """The runs of a row that are through.

    Attributes:
        row: Its name.
        choice: The choice that it was run with, where it has several.
        runs: One per seed.
    """

    row: str
    choice: str
    runs: tuple[RunResult, ...]

    def spread(self, metric: str, *, validation: bool = False) -> Spread:
        """Return the spread of a metric over the seeds."""
        matrices = [run.validation if validation else run.task_incremental for run in self.runs]
        return Spread.of([m.summary()[metric] if m.last else None for m in matrices])

    @property
    def seconds(self) -> Spread:
        """Time of training and consolidation, over the seeds."""
        steps = [[*run.seconds("train"), *run.seconds("build")] for run in self.runs]
        return Spread.of([sum(filter(None, own)) for own in steps])

    def document(self) -> dict[str, Any]:
        """Return plain values."""
        spreads = {name: self.spread(name) for name in _METRICS.values()}
        spreads |= {f"validation_{n}": self.spread(n, validation=True) for n in _METRICS.values()}
        return {
            "row": self.row,
            "choice": self.choice or None,
            "seeds": [run.record["seed"] for run in self.runs],
            "runs": [str(run.path) for run in self.runs],
            **{name: {"mean": s.mean, "std": s.std} for name, s in spreads.items()},
        }


@dataclass(frozen=True)
class StudyReport(Report):
    """The results of a study: a report of which the rows of the study are the experiments.

    Attributes:
        title: What stands above the table.
        rows: The rows that have runs.
        unfinished: A line for everything that was not run to its end.
    """

    title: str = ""
    rows: tuple[RowResult, ...] = ()
    unfinished: tuple[str, ...] = ()

    def parts(self, width: int) -> list[Table | Paragraph]:
        """Return the table of the rows, two where it is wide, and what is missing."""
        has_validation = any(run.validation.last for run in self.runs)
        columns, more = self._columns(), self._validation() if has_validation else {}
        if width >= _WIDE:
            tables = [self._table(self.title, {**columns, **more})]
        else:
            tables = [self._table(self.title, columns)]
            tables += [self._table("On validation images", more)] if more else []
        return [*tables, *map(Paragraph, self.unfinished)]

    @property
    def experiment_names(self) -> list[str]:
        """The names of the rows."""
        return [row.row for row in self.rows]

    def overview(self, width: int) -> list[Table | Paragraph]:
        """Return the table of the rows, and what is missing."""
        return self.parts(width)

    def document(self) -> dict[str, Any]:
        """Return the document of a report, with the rows of the study."""
        found = super().document()
        rows = [row.document() for row in self.rows]
        named = zip(found["groups"], self.rows, strict=True)
        return {
            **found,
            "groups": [{**group, "name": row.row} for group, row in named],
            "study": self.title,
            "rows": rows,
            "unfinished": list(self.unfinished),
        }

    def _columns(self) -> dict[str, list[Cell]]:
        """Return the cells of every row by column."""
        own = [costs([row.runs[-1]])[0] for row in self.rows]
        found = {
            name: [_cell(row.spread(metric)) for row in self.rows]
            for name, metric in _METRICS.items()
        }
        found["kept"] = [_size(each.memory_bytes) for each in own]
        if any(each.image_bytes for each in own):
            found["images"] = [_size(each.image_bytes) for each in own]
        return {**found, "seconds": [_whole(row.seconds) for row in self.rows]}

    def _validation(self) -> dict[str, list[Cell]]:
        return {
            f"validation {name}": [_cell(row.spread(m, validation=True)) for row in self.rows]
            for name, m in _METRICS.items()
        }

    def _table(self, title: str, columns: Mapping[str, Sequence[Cell]]) -> Table:
        """Return a table with the names of the rows, their choices and their seeds in front."""
        has_choices = any(row.choice for row in self.rows)
        table = plain_table(
            "row", *["chosen"] * has_choices, "seeds", *columns, left=2 + has_choices
        )
        table.columns[0].no_wrap = True
        for column in table.columns:
            column.better = column.name.endswith(("ACC", "BWT"))
        for index, row in enumerate(self.rows):
            seeds = ", ".join(str(run.record["seed"]) for run in row.runs)
            own = [column[index] for column in columns.values()]
            table.add_row(row.row, *[row.choice] * has_choices, seeds, *own)
        return titled(title, table)


def _cell(spread: Spread) -> Cell:
    return Cell(str(spread), spread.mean)


def _whole(spread: Spread) -> Cell:
    if spread.mean is None:
        return Cell("-")
    return Cell(f"{spread.mean:.0f}" + ("" if spread.std is None else f" ± {spread.std:.0f}"))


def _size(size: int | None) -> Cell:
    return Cell("-" if size is None else human_bytes(size))


def study_report(plan: StudyPlan, seeds: Collection[int] = ()) -> StudyReport:
    """Return the results of a study: of every row those runs that are through.

    Args:
        plan: The study, and which rows of it.
        seeds: The seeds that count; all if empty.
    """
    known = [run for run in plan.runs() if run.seed in seeds or not seeds]
    by_row: dict[str, list[PlannedRun]] = {row: [] for row in plan.wanted_rows}
    for run in known:
        if run.until is None:
            by_row[run.variant.row].append(run)
    rows, unfinished = [], []
    for row, own in by_row.items():
        results = {run: _result(plan, run) for run in own}
        through = [run for run, result in results.items() if result is not None]
        if through:
            choice = through[0].variant.name.partition("/")[2]
            found = tuple(result for result in results.values() if result is not None)
            rows.append(RowResult(row, choice, found))
        if not own:
            unfinished.append(f"{row}: not chosen yet")
        unfinished += [_why_not(run, plan) for run in own if run not in through]
    return _report(str(plan.folder.path), rows, unfinished)


def _result(plan: StudyPlan, run: PlannedRun) -> RunResult | None:
    """Return the results of a run that is through."""
    folder = plan.folder.run(run.name)
    if not is_begun(folder):
        return None
    try:
        result = read_run(folder.path)
    except DamagedError:  # what its progress says, too
        return None
    return result if result.num_done == result.state.num_tasks else None


def found_report(
    folder: Path, wanted: Sequence[str] = (), seeds: Collection[int] = ()
) -> StudyReport:
    """Return the results of a folder that has the layout of a study, ``ROW/seed-N``, without one.

    Args:
        folder: The folder.
        wanted: Names of the rows that are wanted, as in ``rows_named``; all if empty.
        seeds: The seeds that count; all if empty.

    Raises:
        InputError: If there is no run.
        SettingsError: If a row that is wanted is not there.
    """
    runs: dict[str, list[RunResult]] = {}
    for path in find_runs([folder]).runs:
        inside = path.relative_to(folder)
        row = (inside.parent if inside.name.startswith(_SEED) else inside).as_posix()
        runs.setdefault(row, []).append(read_run(path))
    rows: dict[str, list[RunResult]] = {}
    unfinished = []
    for row in rows_named(wanted, list(runs)):
        for run in runs[row]:
            if seeds and run.record["seed"] not in seeds:
                continue
            if run.num_done == run.state.num_tasks:
                rows.setdefault(row, []).append(run)
            else:
                total = counted(run.state.num_tasks, "task")
                name = run.path.relative_to(folder).as_posix()
                unfinished.append(f"{name}: {run.num_done} of {total} done")
    found = [RowResult(row, "", tuple(runs)) for row, runs in rows.items()]
    return _report(str(folder), found, unfinished)


def _report(title: str, rows: Sequence[RowResult], unfinished: Sequence[str]) -> StudyReport:
    runs = tuple(run for row in rows for run in row.runs)
    groups = tuple(Group(row.runs) for row in rows)
    return StudyReport(runs, groups, title=title, rows=tuple(rows), unfinished=tuple(unfinished))


def _why_not(run: PlannedRun, plan: StudyPlan) -> str:
    progress = plan.progress(run)
    if progress.status == "failed":
        return f"{run.name}: failed: {progress.why}"
    if progress.num_tasks is None:
        return f"{run.name}: not run"
    return f"{run.name}: {progress.tasks_done} of {counted(progress.num_tasks, 'task')} done"
