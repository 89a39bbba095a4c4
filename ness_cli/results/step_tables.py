"""What a step of a task did, as a table or as one line, from its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ness_cli.results.margins import Margins
from ness_cli.results.number_formats import percent
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.results.tables import MARGIN, MARGIN_NOTE
from ness_cli.results.task_facts import TaskFacts
from ness_cli.words import counted


def step_table(step: str, record: Mapping[str, Any], tasks: Sequence[TaskFacts]) -> Table:
    """Return a table of what a step recorded; ``tasks`` is what is known of the run's tasks."""
    if step == "evaluate":
        return _accuracy_table(record, tasks)
    return {"train": _train_table, "build": _layer_table}[step](record)


def step_line(step: str, task: int | None, record: Mapping[str, Any], num_tasks: int) -> str:
    """Return one line on what a step did, for a log of many."""
    start = f"task {task}/{num_tasks}"
    if step == "train":
        valid = record.get("valid_accuracy")
        score = f", validation {valid:.1f} %" if valid is not None else ""
        epochs = counted(record["epochs"], "epoch")
        return f"{start} trained: {epochs}, {record['seconds']:.1f} s{score}"
    if step == "build":
        layers = record["layers"]
        ranks = ", ".join(f"{row['layer']} {row['rank']}/{row['d']}" for row in layers)
        return f"{start} built: {f'open {ranks}' if layers else _kept(record)}"
    row = record.get("task_incremental") or record.get("class_incremental") or []
    scores = [value for value in row if value is not None]
    mean = f"{sum(scores) / len(scores):.2f} %" if scores else "nothing"
    return f"{start} evaluated: mean accuracy over tasks seen {mean}"


def _train_table(record: Mapping[str, Any]) -> Table:
    table = plain_table("epochs", "steps", "loss", "validation", "s", left=0)
    loss, valid = record["train_loss"], record.get("valid_accuracy")
    table.add_row(
        str(record["epochs"]),
        str(record["steps"]),
        "-" if loss is None else f"{loss:.4f}",
        "-" if valid is None else f"{valid:.2f} %",
        f"{record['seconds']:.1f}",
    )
    return titled(f"Task {record['task']}: training", table)


def _layer_table(record: Mapping[str, Any]) -> Table:
    title = f"Task {record['task']}: open to the next task"
    table = plain_table("layer", "d", "rank", "open", "threshold", "rule", "energy in it")
    for row in record["layers"]:
        table.add_row(
            row["layer"],
            str(row["d"]),
            str(row["rank"]),
            f"{row['free_percent']:.1f} %",
            f"{row['threshold']:.4g}",
            row.get("rule", ""),
            f"{row['energy_percent']:.3g} %",
        )
    if not record["layers"]:
        table.add_row(_kept(record), *[""] * 6)
    return titled(title, table, frozen_note(record.get("frozen", {})))


def _kept(record: Mapping[str, Any]) -> str:
    """Return what a method that opens no directions keeps, by the names of its files."""
    kept = record["stored"]
    return "this method keeps nothing" if kept == "nothing" else f"this method keeps {kept}"


def frozen_note(frozen: Mapping[str, int]) -> str:
    """Return one sentence on the parameters that no task after the first trains."""
    if not frozen:
        return ""
    names, most = list(frozen), 6
    more = f" and {len(names) - most} more (--json has all)" if len(names) > most else ""
    shown = ", ".join(names[:most])
    return f"trained in task 1 only, {counted(sum(frozen.values()), 'number')}: {shown}{more}"


def _accuracy_table(record: Mapping[str, Any], tasks: Sequence[TaskFacts]) -> Table:
    tasks = tasks[: int(record["task"])]
    has_names = any(facts.words for facts in tasks)
    kinds = {"task-incremental": "task_incremental", "class-incremental": "class_incremental"}
    kinds["validation"] = "validation"
    shown = {head: record[key] for head, key in kinds.items() if record.get(key) is not None}
    tested: list[float | None] = next(
        (values for head, values in shown.items() if head != "validation"), []
    )
    margins = Margins.of(tested, [facts.num_test for facts in tasks], are_disjoint=True)
    heads = list(shown)
    heads[1:1] = [MARGIN] * (margins is not None)
    table = plain_table("task", *["name"] * has_names, *heads, left=1 + has_names)
    for index, facts in enumerate(tasks):
        cells = [percent(values[index]) for values in shown.values()]
        cells[1:1] = [] if margins is None else [f"{margins.tasks[index]:.2f}"]
        table.add_row(str(facts.number), *[facts.label(36)] * has_names, *cells)
    note = record.get("class_incremental_note")
    return titled(
        f"After task {record['task']}: test accuracy, %",
        table,
        f"class-incremental: {note}" if note else "",
        "" if margins is None else MARGIN_NOTE,
    )
