"""What happened in a run, in order, as numbers to plot: epochs, what stayed open, accuracies.

All of it is read from the run's files. Whoever follows a run in another program needs no memory of
what was told before: after a kill the list is the same again, and goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ness_cli.results.accuracy_matrix import AccuracyMatrix
from ness_cli.results.history import read_history
from ness_cli.run_dir import RunDir, TaskDir
from ness_cli.run_state import RunState, read_state

_MEASURED = {
    "lr": "train/lr",
    "train_loss": "train/loss",
    "valid_loss": "valid/loss",
    "valid_accuracy": "valid/accuracy",
    "seconds": "train/seconds",
}


@dataclass(frozen=True)
class Event:
    """Something that was measured.

    Attributes:
        step: Epochs trained until then, over all tasks.
        time: When, in seconds since 1970; near enough for a plot.
        values: What, by name; accuracies in percent.
    """

    step: int
    time: float
    values: Mapping[str, float]


def read_events(run: RunDir) -> list[Event]:
    """Return all events of a run so far; those of stale steps are left out.

    Raises:
        InputError: If the folder is not a run.
        DamagedError: If a record or a history does not read back.
    """
    state, step = read_state(run), 0
    events: list[Event] = []
    rows: list[list[float | None] | None] = []
    classes: list[list[float | None] | None] = []
    for task in range(1, state.num_tasks + 1):
        epochs = list(_epochs(run.task(task), step, state.of(task, "train").record))
        events += epochs
        step += len(epochs)
        if not state.of(task, "train").is_done:
            break
        events += _opened(state, task, step)
        record = _done(state, task, "evaluate")
        rows.append(record.get("task_incremental"))
        classes.append(record.get("class_incremental"))
        if record:
            values = {**_accuracies("test", rows), **_accuracies("class", classes)}
            events.append(Event(step, _finished(record), {"task": task, **values}))
    return events


def _epochs(folder: TaskDir, before: int, record: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the epochs of a task; one that is being written is left for the next time."""
    entries = read_history(folder.history)
    if not entries:
        return
    end = _finished(record) if record else folder.history.stat().st_mtime
    for index, entry in enumerate(entries, start=1):
        time = end - (entries[-1].get("seconds", 0.0) - entry.get("seconds", 0.0))
        values = {name: entry[key] for key, name in _MEASURED.items() if key in entry}
        yield Event(before + index, time, {"task": folder.number, "epoch": index, **values})


def _opened(state: RunState, task: int, step: int) -> Iterator[Event]:
    """Yield the share of the input directions of all layers that the next task may learn in."""
    record = _done(state, task, "build")
    widths = [(row["rank"], row["d"]) for row in record.get("layers", [])]
    if widths:
        ranks, dims = map(sum, zip(*widths, strict=True))
        values = {"task": task, "subspace/open_percent": 100 * ranks / dims}
        yield Event(step, _finished(record), values)


def _accuracies(kind: str, rows: list[list[float | None] | None]) -> dict[str, float]:
    """Return the last row of accuracies and its summaries, as far as they were measured."""
    row = rows[-1]
    if row is None:
        return {}
    found = {f"{kind}/task-{i:02d}": value for i, value in enumerate(row, start=1)}
    summary = AccuracyMatrix.of(rows).summary()
    found |= {f"{kind}/{name}": value for name, value in summary.items()}
    return {name: value for name, value in found.items() if value is not None}


def _done(state: RunState, task: int, step: str) -> Mapping[str, Any]:
    found = state.of(task, step)
    return found.record if found.is_done else {}


def _finished(record: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(record["finished"]).timestamp() if "finished" in record else 0.0
