"""How many directions of each layer are open to later tasks, and for how many tasks they last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Room:
    """How much room a layer has left after a task.

    Attributes:
        task: The task.
        layer: The layer.
        row: What consolidation recorded of it: d, rank, threshold, energy_percent ...
        closed_per_task: Directions that a task has closed lately, mean over the last three.
        tasks_left: Tasks until none is open at that rate; ``None`` if none closes.
    """

    task: int
    layer: str
    row: Mapping[str, Any]
    closed_per_task: float | None
    tasks_left: float | None

    @property
    def percent(self) -> float:
        """Share of the directions that are open, percent."""
        return 100 * int(self.row["rank"]) / int(self.row["d"])

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        own = {"closed_per_task": self.closed_per_task, "tasks_left": self.tasks_left}
        return {"task": self.task, **self.row, **own}


def room(layers: Mapping[int, Sequence[Mapping[str, Any]]]) -> tuple[Room, ...]:
    """Return how much room is left, per task and layer.

    Args:
        layers: What consolidation recorded of every layer, by task.
    """
    found: list[Room] = []
    ranks: dict[str, list[int]] = {}
    for task, rows in sorted(layers.items()):
        for row in rows:
            own = ranks.setdefault(row["layer"], [])
            own.append(row["rank"])
            recent = own[-4:]
            closed = (recent[0] - recent[-1]) / (len(recent) - 1) if len(recent) > 1 else None
            left = row["rank"] / closed if closed is not None and closed > 0 else None
            left = 0.0 if row["rank"] == 0 else left
            found.append(Room(task, row["layer"], row, closed, left))
    return tuple(found)


def last_room(layers: Mapping[int, Sequence[Mapping[str, Any]]]) -> tuple[Room, ...]:
    """Return the room of every layer after the last task that is known; see ``room``."""
    found = room(layers)
    last = max((each.task for each in found), default=0)
    return tuple(each for each in found if each.task == last)
