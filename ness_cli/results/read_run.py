"""The results of a run, from the records its steps left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ness_cli.errors import DamagedError
from ness_cli.extensions import Extension, forked_words, read_extensions
from ness_cli.results.accuracy_matrix import AccuracyMatrix, mean
from ness_cli.results.forgetting_meter import ForgettingMeter
from ness_cli.results.margins import Margins
from ness_cli.results.room import Room, last_room
from ness_cli.results.task_facts import TaskFacts, are_disjoint, read_tasks
from ness_cli.run_dir import RunDir
from ness_cli.run_state import (
    COMMANDS,
    STEPS,
    RunState,
    command,
    read_run_record,
    read_state,
)
from ness_cli.settings.identity import method_label


@dataclass(frozen=True)
class RunResult:
    """What a run has to show.

    Attributes:
        path: The run folder.
        record: The content of ``run.json``.
        state: Its steps and their records.
        task_incremental: Task-incremental accuracies: the task of an image is known.
        class_incremental: Class-incremental ones: it is not; without rows if never measured.
        validation: Task-incremental ones on validation images; likewise.
        class_note: Why there are none, if that is known.
        tasks: What is known of its tasks.
        untrained: After every task, accuracy on the next one, which is not learned yet; ``None``
            where heads are not shared.
    """

    path: Path
    record: Mapping[str, Any]
    state: RunState
    task_incremental: AccuracyMatrix
    class_incremental: AccuracyMatrix
    validation: AccuracyMatrix
    class_note: str
    tasks: tuple[TaskFacts, ...]
    untrained: tuple[float | None, ...] = ()

    @cached_property
    def method(self) -> str:
        """The method and its variant: ``ness bounded``."""
        return method_label(self.record["method"], self.record["identity"])

    @property
    def extensions(self) -> tuple[Extension, ...]:
        """What was appended to it."""
        return read_extensions(self.record)

    @property
    def is_fork(self) -> bool:
        """Whether it shares the training of its first tasks with the run it was forked from."""
        return "forked" in self.record

    @property
    def margins(self) -> Margins | None:
        """How far the last row of accuracies may be off; ``None`` if test counts are unknown."""
        row = self.task_incremental.final
        counts = [task.num_test for task in self.tasks[: len(row)]]
        return Margins.of(row, counts, are_disjoint=are_disjoint(self.record["identity"]))

    @cached_property
    def meter(self) -> ForgettingMeter:
        """How far its updates moved outputs on earlier inputs, as its records tell."""
        return ForgettingMeter.of(self.state, self.record["identity"])

    @property
    def fwt(self) -> float | None:
        """Forward transfer: mean accuracy on tasks before they are learned, above guessing.

        ``None`` where heads are not shared, or a number is not known.
        """
        last = self.task_incremental.last
        gains = [
            None if before is None or not task.classes else before - 100 / len(task.classes)
            for before, task in zip(self.untrained, self.tasks[1:last], strict=False)
        ]
        return mean(gains)

    @cached_property
    def room(self) -> tuple[Room, ...]:
        """How much room its layers have left, after the last task that is consolidated."""
        records = enumerate(self.records("build"), start=1)
        return last_room({task: record.get("layers", []) for task, record in records})

    @property
    def num_done(self) -> int:
        """Tasks that are trained, consolidated and evaluated."""
        tasks = range(1, self.state.num_tasks + 1)
        return sum(all(self.state.of(t, s).is_done for s in STEPS) for t in tasks)

    @property
    def determinism(self) -> str:
        """What the run asked of its device: strict, seeded or off."""
        # Runs from before it could be asked for were strict.
        return str(self.record["identity"].get("compute.determinism", "strict"))

    @property
    def notes(self) -> list[str]:
        """What must be said of this run: its method's notes, and steps that are stale."""
        stale = [
            f"{COMMANDS[s.step]} of task {s.task} is stale and left out: {s.why}"
            for s in self.state.steps
            if s.status == "stale"
        ]
        added = [each.words() for each in self.extensions]
        return [*self.record.get("notes", []), *forked_words(self.record), *added, *stale]

    @property
    def results(self) -> dict[str, Any]:
        """What the run has made: the hash of every tensor file, and every row of accuracies."""
        found: dict[str, Any] = {}
        for step in self.state.steps:
            found.update(step.record.get("outputs", {}))
        for kind, matrix in (("task", self.task_incremental), ("class", self.class_incremental)):
            rows = enumerate(matrix.rows, start=1)
            found.update({f"{kind} row {t}": row for t, row in rows if row is not None})
        return found

    def records(self, step: str) -> list[Mapping[str, Any]]:
        """Return the records of ``step``, per task; empty ones where there are none."""
        return [self.state.of(t, step).record for t in range(1, self.state.num_tasks + 1)]

    def kept(self) -> Mapping[str, int]:
        """Return what is kept after the last task, in bytes and numbers, by kind.

        Empty for a run of a version that did not count it.
        """
        known = [record["kept"] for record in self.records("build") if "kept" in record]
        return known[-1] if known else {}

    def seconds(self, step: str) -> list[float | None]:
        """Return the seconds that ``step`` took, per task."""
        records = self.records(step)
        return [record.get("seconds") if record else None for record in records]

    def bytes_written(self) -> list[int | None]:
        """Return the bytes of tensor files written, per task."""
        columns = [self.records(step) for step in ("train", "build")]
        return [
            sum(sum(r.get("bytes", {}).values()) for r in records) if any(records) else None
            for records in zip(*columns, strict=True)
        ]

    def memory_bytes(self) -> int | None:
        """Return the bytes of what the method carried to the next task, after the last one."""
        known = [r["memory_bytes"] for r in self.records("build") if "memory_bytes" in r]
        return known[-1] if known else None

    def peak_memory(self) -> int | None:
        """Return the most memory any step used, in bytes."""
        peaks = [s.record.get("peak_memory_bytes") for s in self.state.steps if s.record]
        return max((peak for peak in peaks if peak), default=None)


def read_run(path: Path) -> RunResult:
    """Read the results of a run; accuracies of stale steps are left out.

    Raises:
        InputError: If the folder is not a run.
        DamagedError: If a record does not read back.
    """
    run = RunDir(path)
    run_record = read_run_record(run)
    state = read_state(run)
    kinds = ("task_incremental", "class_incremental", "validation")
    rows: dict[str, list[list[float | None] | None]] = {kind: [] for kind in kinds}
    note, untrained = "", []
    for task_number in range(1, state.num_tasks + 1):
        step = state.of(task_number, "evaluate")
        record = step.record if step.is_done else {}
        for key, column in rows.items():
            column.append(_row(run, task_number, key, record.get(key)))
        note = record.get("class_incremental_note") or note
        untrained.append(record.get("next_task"))
    task_incremental, class_incremental, validation = (
        AccuracyMatrix.of(column) for column in rows.values()
    )
    tasks = read_tasks(run, state.num_tasks)
    return RunResult(
        *(path, run_record, state, task_incremental, class_incremental, validation, note, tasks),
        tuple(untrained),
    )


def _row(run: RunDir, task_number: int, key: str, values: Any) -> list[float | None] | None:
    """Return a row of accuracies after checking that it can be one."""
    if values is None:
        return None
    good = isinstance(values, list) and len(values) == task_number and values[-1] is not None
    known = [value for value in values if value is not None] if good else []
    if not good or not all(isinstance(v, int | float) and 0 <= v <= 100 for v in known):
        path = run.task(task_number).record("accuracy")
        raise DamagedError(
            f"{path} is damaged: {key} is no list of {task_number} percentages",
            f"run: {command(run.path, 'evaluate', task_number)} --force",
        )
    return [None if value is None else float(value) for value in values]
