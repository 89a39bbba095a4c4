"""The legend below a picture: in a column, or in several where there are many short names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ness_cli.plots.picture import label

if TYPE_CHECKING:
    from ness_cli.plots.picture import AnyFigure

_ROW, _MARK = 0.17, 0.5  # inches; a mark has room on both sides
_POINTS = 72  # per inch
_FEW = 6  # in one column, where eyes go straight down


@dataclass(frozen=True)
class Legend:
    """What the marks of a picture mean.

    Attributes:
        names: What is named in it.
        width: Of the picture, inches.
    """

    names: Sequence[str]
    width: float

    @property
    def columns(self) -> int:
        """How many stand side by side, at least one."""
        if len(self.names) <= _FEW:
            return 1
        return max(1, int(self.width / (_MARK + max(map(_width, self.names)))))

    @property
    def height(self) -> float:
        """Inches that it takes of the picture."""
        return _ROW * math.ceil(len(self.names) / self.columns)

    def draw(self, figure: AnyFigure) -> None:
        """Draw it below the axes, with what was drawn there."""
        figure.legend(loc="outside lower left", ncols=self.columns)


def _width(name: str) -> float:
    """Return how wide a name is, inches."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(size=rcParams["legend.fontsize"])
    text = f"{label(name)}."  # no path can be made of nothing
    return float(TextPath((0, 0), text, prop=font).get_extents().width) / _POINTS
