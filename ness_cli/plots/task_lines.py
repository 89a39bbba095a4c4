"""Lines over tasks, with a band of one sample standard deviation over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ness_cli.plots.legend import Legend
from ness_cli.plots.picture import (
    COLOURS,
    DASHES,
    INK,
    MARKERS,
    heading,
    label,
    or_nan,
    say_nothing_is_there,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ness_cli.plots.picture import AnyFigure

_WIDTH = 4.8  # inches
_LEAST = 5.0  # points: less than that, from bottom to top, would make a drama of tenths


@dataclass(frozen=True)
class TaskLine:
    """A number per task.

    Attributes:
        name: Whose number it is.
        means: From task 1; ``None`` for what is not known.
        deviations: Of seeds; ``None`` where there is one seed only.
    """

    name: str
    means: Sequence[float | None]
    deviations: Sequence[float | None] = ()

    @property
    def values(self) -> list[float]:
        """The means; not a number for what is not known."""
        return [or_nan(value) for value in self.means]

    @property
    def is_known(self) -> bool:
        """Whether there is anything to draw."""
        return any(map(math.isfinite, self.values))

    @property
    def bounds(self) -> tuple[list[float], list[float]]:
        """Mean minus and plus deviation; not a number where there is none."""
        pairs = list(zip(self.values, [or_nan(d) for d in self.deviations], strict=False))
        return [mean - d for mean, d in pairs], [mean + d for mean, d in pairs]


@dataclass(frozen=True)
class TaskLines:
    """A picture of lines over tasks.

    Attributes:
        title: What they show.
        y_label: What their numbers are, with the unit.
        x_label: What the tasks are to them.
        lines: The lines.
        is_change: Whether they are changes, so that the place of zero matters, and no percentages.
    """

    title: str
    y_label: str
    x_label: str
    lines: Sequence[TaskLine]
    is_change: bool = False

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, inches."""
        return _WIDTH, 2.9 + (self._legend.height if len(self.lines) > 1 else 0)

    def draw(self, figure: AnyFigure) -> None:
        """Draw it into an empty figure."""
        axes = figure.add_subplot()
        heading(axes, self.title)
        if not any(line.is_known for line in self.lines):
            say_nothing_is_there(axes, "nothing measured yet")
            return
        for index, line in enumerate(self.lines):
            if line.is_known:
                _draw_line(axes, line, index)
        axes.set(xlabel=self.x_label, ylabel=self.y_label)
        integer_ticks(axes, max(len(line.means) for line in self.lines))
        if self.is_change:
            axes.axhline(0, color=INK, linewidth=0.8, zorder=1)
        axes.set_ylim(*_wide_enough(*axes.get_ylim(), is_percent=not self.is_change))
        if len(self.lines) > 1:
            self._legend.draw(figure)

    @property
    def _legend(self) -> Legend:
        return Legend([line.name for line in self.lines], _WIDTH)


def _draw_line(axes: Axes, line: TaskLine, index: int) -> None:
    colour = COLOURS[index % len(COLOURS)]
    tasks = range(1, len(line.means) + 1)
    axes.plot(
        tasks,
        line.values,
        color=colour,
        marker=MARKERS[index % len(MARKERS)],
        linestyle=DASHES[index // len(COLOURS) % len(DASHES)],
        label=label(line.name),
    )
    low, high = line.bounds
    axes.fill_between(tasks[: len(low)], low, high, color=colour, alpha=0.15, linewidth=0)


def integer_ticks(axes: Axes, last: int) -> None:
    """Mark whole tasks from 1 to the last, as many as there is room for."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0.5, last + 0.5)
    if last <= 10:
        axes.set_xticks(range(1, last + 1))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _wide_enough(low: float, high: float, *, is_percent: bool) -> tuple[float, float]:
    """Return limits that are not too near, of percentages not above a hundred by much."""
    if high - low < _LEAST:
        middle = (low + high) / 2
        low, high = middle - _LEAST / 2, middle + _LEAST / 2
    return (low, min(high, 100.5)) if is_percent else (low, high)
