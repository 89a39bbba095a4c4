"""Results of one run or several, as tables and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType

from ness_cli.results import cost_tables, forgetting_meter_tables, room_tables, tables
from ness_cli.results.accuracy_matrix import AccuracyMatrix
from ness_cli.results.costs import Costs, costs
from ness_cli.results.metrics import METRICS, NAMES, metrics_table
from ness_cli.results.order_robustness import OrderRobustness, order_robustness
from ness_cli.results.paired import PairedComparison, compared, paired_table
from ness_cli.results.read_run import RunResult
from ness_cli.results.run_metrics import Values, run_metrics
from ness_cli.results.run_names import RunNames
from ness_cli.results.summary import Group, Spread, distinct_names, short_names
from ness_cli.results.table import Paragraph, Table, apart
from ness_cli.words import counted

_MOST_MATRICES = 30  # accuracies by task are shown of so many runs
_OTHER_COLUMNS = 52  # what the columns beside names of runs and methods take, at most
_ALONE_COLUMNS = 60  # the same in tables without methods
_LEAST_NAME = 12  # columns of a name, however little is left


@dataclass(frozen=True)
class Report:
    """The results of some runs.

    Attributes:
        runs: The runs.
        groups: The same, those together that differ in their seed only.
        left_out: A line for everything that was named and is no run.
        damaged: A line for every run that does not read back.
        against: The one of the groups that the others are compared with, if any.
        explains: Whether it says what the metrics are.
    """

    runs: tuple[RunResult, ...]
    groups: tuple[Group, ...]
    left_out: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    against: Group | None = None
    explains: bool = False

    @cached_property
    def costs(self) -> list[Costs]:
        """What the accuracy of each run was bought with."""
        return costs(self.runs)

    @cached_property
    def metrics(self) -> list[Values]:
        """The metrics of each run by name."""
        return run_metrics(self.runs, self.costs)

    @cached_property
    def orders(self) -> list[OrderRobustness]:
        """What the order of tasks decides, of experiments with several."""
        return order_robustness(self.groups)

    @cached_property
    def paired(self) -> list[PairedComparison]:
        """The other groups beside the one that they are compared with."""
        baseline = self.against
        if baseline is None:
            return []
        named = zip(self.groups, distinct_names(self.groups), strict=True)
        return [compared(each, baseline, name) for each, name in named if each is not baseline]

    @property
    def _baseline_name(self) -> str:
        named = zip(self.groups, distinct_names(self.groups), strict=True)
        return next((name for group, name in named if group is self.against), "")

    def document(self) -> dict[str, Any]:
        """Return everything as plain values, percent and seconds and bytes."""
        of_runs = zip(self.runs, self.costs, self.metrics, strict=True)
        names = distinct_names(self.groups)
        return {
            "schema": "ness.report/1",
            "runs": [
                _run_document(run) | {"costs": own.as_json(), "metrics": dict(values)}
                for run, own, values in of_runs
            ],
            "groups": [
                {"name": name, **group.as_json(), "metrics": self._spreads(group)}
                for group, name in zip(self.groups, names, strict=True)
            ],
            "orders": [each.as_json() for each in self.orders],
            **self._paired_document(),
            "left_out": list(self.left_out),
            "damaged": list(self.damaged),
            **({"explained": [m.as_json() for m in METRICS]} if self.explains else {}),
        }

    def _paired_document(self) -> dict[str, Any]:
        found = [each.as_json() for each in self.paired]
        return {"paired": {"against": self._baseline_name, "groups": found}} if self.against else {}

    def _paired_table(self) -> Table | None:
        if not self.paired:
            return None
        names, preset = short_names(self.groups)
        named = list(zip(self.groups, names, strict=True))
        others = [name for group, name in named if group is not self.against]
        (own,) = [name for group, name in named if group is self.against]
        return paired_table(self.paired, others, f"Difference from {own}, points{preset}")

    def _spreads(self, group: Group) -> dict[str, dict[str, float | None]]:
        """Return mean and deviation of every metric over the seeds of a group."""
        counted = {id(run) for run in group.furthest}
        own = [v for run, v in zip(self.runs, self.metrics, strict=True) if id(run) in counted]
        spreads = {name: Spread.of([values[name] for values in own]) for name in NAMES}
        return {name: {"mean": each.mean, "std": each.std} for name, each in spreads.items()}

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Return the parts as rich prints them."""
        return apart(self.parts(options.max_width))

    def parts(self, width: int) -> list[Table | Paragraph]:
        """Return what it shows from top to bottom, for lines of ``width`` characters."""
        explained = [metrics_table()] if self.explains else []
        if not self.runs:
            return list(explained)
        return [*self._accuracies(width), *self.summaries(width), *explained]

    @property
    def experiment_names(self) -> list[str]:
        """What the groups are called, beside each other."""
        return short_names(self.groups)[0]

    def overview(self, width: int) -> list[Table | Paragraph]:
        """Return the experiments side by side, for lines of ``width`` characters."""
        return [tables.group_table(self.groups)] if self.groups else []

    def summaries(self, width: int) -> list[Table | Paragraph]:
        """Return what it shows but every single accuracy, for lines of ``width`` characters."""
        methods = max((len(run.method) for run in self.runs), default=0)
        space = max(width - _OTHER_COLUMNS - methods, _LEAST_NAME)
        paths = [run.path for run in self.runs]
        names = RunNames.of(paths, space)
        alone = RunNames.of(paths, max(space, width - _ALONE_COLUMNS))
        has_seeds = any(len(group.independent) > 1 for group in self.groups)
        found: list[Table | None] = [
            tables.comparison_table(self.runs, names),
            tables.class_table(self.runs, names),
            tables.validation_table(self.runs, names),
            tables.transfer_table(self.runs, self.metrics, names),
            tables.group_table(self.groups) if has_seeds else None,
            self._paired_table(),
            room_tables.order_table(self.orders),
            *self._of_one_or_many(alone),
            cost_tables.kept_table(self.runs, self.costs, alone),
            cost_tables.effort_table(self.runs, self.costs, alone),
            cost_tables.cost_table(self.runs, alone),
        ]
        shown = [table for table in found if table is not None]
        return [*shown, *self._notes()]

    def _of_one_or_many(self, names: RunNames) -> list[Table | None]:
        """Return what is shown by layer and task of a single run, and in a line of several."""
        if len(self.runs) > 1:
            meters = forgetting_meter_tables.meters_table(self.runs, names)
            return [meters, room_tables.room_table(self.runs, names)]
        (run,) = self.runs
        meter = forgetting_meter_tables.updates_table(run.meter)
        return [meter, room_tables.layer_room_table(run), cost_tables.steps_table(run)]

    def _accuracies(self, width: int) -> list[Table | Paragraph]:
        """Return a table per run, and once what explains them; too many tables say nothing."""
        if len(self.runs) > _MOST_MATRICES:
            left_out = counted(len(self.runs), "run")
            text = f"accuracies by task of {left_out} left out; --format json has them"
            return [Paragraph(text, is_faint=True)]
        found: list[Table | Paragraph] = []
        legend = []
        for run in self.runs:
            title = f"{run.path}: {run.method}, test accuracy in %"
            if run.task_incremental.last:
                margins = run.margins
                legend += [tables.MARGIN_NOTE] if margins else []
                legend.append(tables.names_below(run.task_incremental, run.tasks, width))
                found.append(
                    tables.accuracy_table(run.task_incremental, title, width, run.tasks, margins)
                )
            elif not run.class_incremental.last:
                found.append(Paragraph(f"{run.path}: not evaluated yet"))
        lines = (line for line in dict.fromkeys(legend) if line)
        return [*found, *(Paragraph(line, is_faint=True) for line in lines)]

    def _notes(self) -> list[Paragraph]:
        notes = [Paragraph(f"Left out: {line}") for line in self.damaged]
        notes += [Paragraph(f"Note, {run.path}: {note}") for run in self.runs for note in run.notes]
        notes += [Paragraph(f"Note: {repeat}") for group in self.groups for repeat in group.repeats]
        if all(len(group.independent) == 1 for group in self.groups):
            notes.append(Paragraph("Every experiment here is a single seed.", is_faint=True))
        return notes


def _summary(matrix: AccuracyMatrix) -> dict[str, Any] | None:
    return {**matrix.summary(), "matrix": matrix.as_json()} if matrix.last else None


def _run_document(run: RunResult) -> dict[str, Any]:
    seconds = {step: run.seconds(step) for step in ("train", "build", "evaluate")}
    return {
        "path": str(run.path),
        "preset": run.record["preset"],
        "method": run.record["method"],
        "method_label": run.method,
        "seed": run.record["seed"],
        "forked_from": run.record["forked"]["from"] if run.is_fork else None,
        "num_tasks": run.state.num_tasks,
        "tasks_done": run.num_done,
        **run.task_incremental.summary(),
        "matrix": run.task_incremental.as_json(),
        "acc_tasks": list(run.task_incremental.scored),
        "extensions": [each.document() for each in run.extensions],
        "margins": None if run.margins is None else list(run.margins.tasks),
        "acc_margin": None if run.margins is None else run.margins.mean,
        "tasks": [
            {"number": task.number, "label": ", ".join(task.words), "test_images": task.num_test}
            for task in run.tasks
        ],
        "class_incremental": _summary(run.class_incremental),
        "validation": _summary(run.validation),
        "class_incremental_note": run.class_note or None,
        "forgetting_meter": run.meter.document(),
        "determinism": run.determinism,
        "seconds": seconds,
        "bytes_written": run.bytes_written(),
        "memory_bytes": run.memory_bytes(),
        "peak_memory_bytes": run.peak_memory(),
        "notes": run.notes,
    }
