"""How far a run has come, as one picture: what it knows, how it learns, what room it has left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ness_cli.plots.picture import Picture, label

if TYPE_CHECKING:
    from ness_cli.plots.picture import AnyFigure


@dataclass(frozen=True)
class Progress:
    """Several pictures side by side.

    Attributes:
        title: What the run is and how far it has come.
        parts: The pictures, two in a row.
    """

    title: str
    parts: Sequence[Picture]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, inches."""
        return 11.0, 3.9 * -(-len(self.parts) // 2) + 0.4

    def draw(self, figure: AnyFigure) -> None:
        """Draw it into an empty figure."""
        figure.suptitle(label(self.title, 110), fontweight="bold")
        rows = -(-len(self.parts) // 2)
        fields = figure.subfigures(rows, 2, squeeze=False).flat
        for part, field in zip(self.parts, fields, strict=False):
            part.draw(field)
