"""The accuracy matrix: how well every task was known after every task."""

from __future__ import annotations

from collections.abc import Sequence

from ness_cli.plots.heat_map import HeatMap
from ness_cli.plots.ramp import span

Row = Sequence[float | None]


def accuracy_matrix(whose: str, rows: Sequence[Row | None], names: Sequence[str] = ()) -> HeatMap:
    """Return the picture of an accuracy matrix.

    Args:
        whose: Whose accuracies they are.
        rows: Percent; row t has the tasks 1..t, or is ``None`` if it was not measured.
        names: What the tasks are called besides their numbers; nothing if empty.
    """
    size = len(rows)
    cells = [[*(row or ()), *[None] * (size - len(row or ()))] for row in rows]
    tasks = range(1, size + 1)
    beside = [f"{t}: {name}" if name else str(t) for t, name in zip(tasks, names, strict=False)]
    return HeatMap(
        "Test accuracy, %",
        whose,
        cells,
        beside or [str(t) for t in tasks],
        [str(t) for t in tasks],
        x_label="on task",
        y_label="after learning task",
        limits=span(value for row in cells for value in row),
    )
