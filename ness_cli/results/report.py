"""Results of one run or several, as tables and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType

from ness_cli.results import forgetting_meter_tables, tables
from ness_cli.results.accuracy_matrix import AccuracyMatrix
from ness_cli.results.costs import costs
from ness_cli.results.read_run import RunResult
from ness_cli.results.run_names import RunNames
from ness_cli.results.summary import Group, distinct_names
from ness_cli.results.table import Paragraph, Table, apart

_OTHER_COLUMNS = 62  # what the columns beside the names of runs take, at most


@dataclass(frozen=True)
class Report:
    """The results of some runs.

    Attributes:
        runs: The runs.
        groups: The same, those together that differ in their seed only.
        left_out: A line for everything that was named and is no run.
    """

    runs: tuple[RunResult, ...]
    groups: tuple[Group, ...]
    left_out: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return everything as plain values, percent and seconds and bytes."""
        return {
            "schema": "ness.report/1",
            "runs": [
                _run_document(run) | {"costs": own.as_json()}
                for run, own in zip(self.runs, costs(self.runs), strict=True)
            ],
            "groups": [
                {"name": name, **group.as_json()}
                for group, name in zip(self.groups, distinct_names(self.groups), strict=True)
            ],
            "left_out": list(self.left_out),
        }

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Return the parts as rich prints them."""
        return apart(self.parts(options.max_width))

    def parts(self, width: int) -> list[Table | Paragraph]:
        """Return what it shows from top to bottom, for lines of ``width`` characters."""
        found = self._accuracies(width)
        names = RunNames.of([run.path for run in self.runs], width - _OTHER_COLUMNS)
        found.append(tables.comparison_table(self.runs, names))
        class_incremental = tables.class_table(self.runs, names)
        if class_incremental is not None:
            found.append(class_incremental)
        validation = tables.validation_table(self.runs, names)
        if validation is not None:
            found.append(validation)
        if any(len(group.independent) > 1 for group in self.groups):
            found.append(tables.group_table(self.groups))
        single = self.runs[0] if len(self.runs) == 1 else None
        if single is not None:
            meter = forgetting_meter_tables.updates_table(single.meter)
        else:
            meter = forgetting_meter_tables.meters_table(self.runs, names)
        if meter is not None:
            found.append(meter)
        if single is not None:
            found.append(tables.steps_table(single))
        found.append(tables.kept_table(self.runs, costs(self.runs), names))
        return [*found, tables.cost_table(self.runs, names), *self._notes()]

    def _accuracies(self, width: int) -> list[Table | Paragraph]:
        """Return a table per run, and once what explains them."""
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
        notes = [Paragraph(f"Note, {run.path}: {note}") for run in self.runs for note in run.notes]
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
