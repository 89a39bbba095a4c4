"""Results of one run or several, as tables and as a document. Starts without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from ness_cli.results import forgetting_meter_tables, tables
from ness_cli.results.accuracy_matrix import AccuracyMatrix
from ness_cli.results.costs import costs
from ness_cli.results.find_runs import find_runs
from ness_cli.results.read_run import RunResult, read_run
from ness_cli.results.run_names import RunNames
from ness_cli.results.summary import Group, groups

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
            "groups": [group.as_json() for group in self.groups],
            "left_out": list(self.left_out),
        }

    def renderables(self, width: int) -> list[RenderableType]:
        """Return the tables, for a console of ``width`` columns, an empty line between them."""
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
        found += [tables.cost_table(self.runs, names), *self._notes()]
        return [part for item in found for part in (item, Text(""))][:-1]

    def _accuracies(self, width: int) -> list[RenderableType]:
        """Return a table per run, and once what explains them."""
        found: list[RenderableType] = []
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
                found.append(Text(f"{run.path}: not evaluated yet"))
        return [*found, *(Text(line, style="dim") for line in dict.fromkeys(legend) if line)]

    def _notes(self) -> list[RenderableType]:
        notes = [Text(f"Note, {run.path}: {note}") for run in self.runs for note in run.notes]
        notes += [Text(f"Note: {repeat}") for group in self.groups for repeat in group.repeats]
        if all(len(group.independent) == 1 for group in self.groups):
            notes.append(Text("Every experiment here is a single seed.", style="dim"))
        return list(notes)


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
