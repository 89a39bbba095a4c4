"""Numbers as coloured cells with the number in each: a table whose pattern is seen at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ness_cli.plots.picture import FAINT, heading, label, say_nothing_is_there
from ness_cli.plots.ramp import colour, ink_on
from ness_cli.words import fixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ness_cli.plots.picture import AnyFigure

_CELL = (0.38, 0.25)  # inches: room for "100.0"
_LINE = 0.13  # inches: a name beside a row
_LARGEST_FONT, _SMALLEST_FONT = 8.0, 4.0  # points
_MOST_NUMBERS = 900  # that are written: more are not read, and take seconds to draw


@dataclass(frozen=True)
class HeatMap:
    """A heat map.

    Attributes:
        title: What it shows, with the unit.
        whose: Of whom, or empty.
        cells: Rows from the top, all of the same length; ``None`` for what is not known.
        rows: What stands beside each row.
        columns: What stands below each column.
        x_label: What the columns are.
        y_label: What the rows are.
        limits: Numbers that are lightest and darkest.
    """

    title: str
    whose: str
    cells: Sequence[Sequence[float | None]]
    rows: Sequence[str]
    columns: Sequence[str]
    x_label: str
    y_label: str
    limits: tuple[float, float]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, inches."""
        width, height = _CELL[0] * len(self.columns), _CELL[1] * len(self.rows)
        return max(3.6, width + self._words + 0.6), max(1.9, height + 1.0)

    @property
    def _words(self) -> float:
        """Inches that the names of the rows take, about."""
        return 0.065 * max((len(label(row, 24)) for row in self.rows), default=0)

    def draw(self, figure: AnyFigure) -> None:
        """Draw it into an empty figure."""
        axes = figure.add_subplot()
        heading(axes, self.title, self.whose)
        if not self.cells:
            say_nothing_is_there(axes, "nothing measured yet")
            return
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set(
            xlim=(-0.5, len(self.columns) - 0.5),
            ylim=(len(self.rows) - 0.5, -0.5),
            xlabel=self.x_label,
            ylabel=self.y_label,
        )
        axes.set_xticks(range(len(self.columns)), [label(name, 8) for name in self.columns])
        inches = (figure.bbox.height / figure.dpi - 1.0) / len(self.rows)
        every = math.ceil(_LINE / max(inches, 0.01))
        shown = range(0, len(self.rows), every)
        axes.set_yticks(shown, [label(self.rows[index], 24) for index in shown])
        self._draw_cells(axes, self._font(figure))

    def _font(self, figure: AnyFigure) -> float:
        """Return the size of the numbers that fits the cells, points; 0 where none would."""
        if sum(value is not None for row in self.cells for value in row) > _MOST_NUMBERS:
            return 0.0
        width, height = (side / figure.dpi for side in figure.bbox.size)
        wide = 72 * (width - self._words - 0.6) / len(self.columns) / 2.8
        high = 72 * (height - 1.0) / len(self.rows) / 1.3
        font = min(_LARGEST_FONT, wide, high)
        return font if font >= _SMALLEST_FONT else 0.0

    def _draw_cells(self, axes: Axes, font: float) -> None:
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle

        low, high = self.limits
        patches, colours = [], []
        for y, row in enumerate(self.cells):
            for x, value in enumerate(row):
                if value is None or not math.isfinite(value):
                    continue
                shade = colour(value, low, high)
                patches.append(Rectangle((x - 0.48, y - 0.47), 0.96, 0.94))
                colours.append(shade)
                if font:
                    ink = ink_on(shade)
                    text = axes.text(x, y, written(value), color=ink, fontsize=font)
                    text.set(ha="center", va="center")
                    # Inside the axes anyway; measuring them all takes longer than drawing them.
                    text.set_in_layout(False)
        cells = PatchCollection(patches, facecolors=colours, edgecolors=FAINT, linewidths=0.3)
        axes.add_collection(cells)


def written(value: float) -> str:
    """Return a number as it stands in a cell: a decimal, but none for a hundred."""
    text = fixed(value, 1)
    return "100" if text == "100.0" else text
