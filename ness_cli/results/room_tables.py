"""Tables of the room that layers have left, and of what the order of tasks decides."""

from __future__ import annotations

from collections.abc import Sequence

from ness_cli.results.order_robustness import OrderRobustness
from ness_cli.results.read_run import RunResult
from ness_cli.results.room import Room
from ness_cli.results.run_names import RunNames
from ness_cli.results.table import Cell, Table, plain_table, titled
from ness_cli.words import fixed

_NOTE = "closed: directions a task has closed lately; left: tasks until none is open"


def layer_room_table(run: RunResult) -> Table | None:
    """Return the room of every layer of a run; nothing if none is known."""
    if not run.room:
        return None
    table = plain_table("layer", "open", "of", "%", "closed", "left")
    for each in run.room:
        closed = "-" if each.closed_per_task is None else f"{each.closed_per_task:.1f}"
        counts = (str(each.row["rank"]), str(each.row["d"]), f"{each.percent:.1f}")
        table.add_row(each.layer, *counts, closed, _left(each))
    title = f"Directions open to the next task, after task {run.room[0].task}"
    return titled(title, table, _NOTE)


def room_table(runs: Sequence[RunResult], names: RunNames) -> Table | None:
    """Return of every run the layer with least room, and the one that is used up first.

    Nothing if no room is known of any.
    """
    shown = [(run, run.room) for run in runs if run.room]
    if not shown:
        return None
    table = plain_table("run", "least room", "open, %", "first used up", "tasks left")
    table.columns[1].is_text = table.columns[3].is_text = True
    for run, rooms in shown:
        least = min(rooms, key=lambda each: each.percent)
        lasting = [(each.tasks_left, each) for each in rooms if each.tasks_left is not None]
        first = min(lasting, key=lambda item: item[0])[1] if lasting else None
        cells = (least.layer, Cell(f"{least.percent:.1f}", least.percent))
        layer, left = ("-", "-") if first is None else (first.layer, _left(first))
        table.add_row(names.name(run.path), *cells, layer, left)
    note = "tasks left: open directions over those that a task has closed lately"
    return titled(names.title("Directions open to the next task"), table, note)


def _left(room: Room) -> str:
    if room.closed_per_task is None:
        return "-"
    return "no end" if room.tasks_left is None else f"{room.tasks_left:.0f}"


def order_table(found: Sequence[OrderRobustness]) -> Table | None:
    """Return how much the order of tasks decides; nothing where they were learned in one."""
    if not found:
        return None
    table = plain_table("experiment", "orders", "runs", "MOPD", "AOPD")
    for column in table.columns[-2:]:
        column.better = -1
    for each in found:
        name = f"{each.preset}, {each.method}"
        values = [Cell(fixed(value), value) for value in (each.mopd, each.aopd)]
        table.add_row(name, str(each.num_orders), str(each.num_runs), *values)
    notes = (
        "of each task: largest minus smallest final accuracy, each the mean over seeds",
        "MOPD: of the task that has most; AOPD: mean over tasks",
    )
    return titled("Disparity between orders of the tasks, points", table, *notes)
