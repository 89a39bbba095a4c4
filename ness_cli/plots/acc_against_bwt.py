"""Accuracy against backward transfer: who learns, who keeps, who does both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ness_cli.plots.legend import Legend
from ness_cli.plots.picture import (
    COLOURS,
    INK,
    MARKERS,
    heading,
    label,
    or_nan,
    say_nothing_is_there,
)

if TYPE_CHECKING:
    from ness_cli.plots.picture import AnyFigure

_WIDTH = 4.8  # inches


@dataclass(frozen=True)
class Result:
    """ACC and BWT of an experiment, percent.

    Attributes:
        name: What it is called.
        acc: Mean of ACC over seeds.
        bwt: Mean of BWT over seeds.
        acc_std: Sample standard deviation of ACC; ``None`` for one seed.
        bwt_std: That of BWT.
        is_published: Whether somebody else measured it.
    """

    name: str
    acc: float | None
    bwt: float | None
    acc_std: float | None = None
    bwt_std: float | None = None
    is_published: bool = False

    @property
    def is_known(self) -> bool:
        """Whether it has a place in the picture."""
        return math.isfinite(or_nan(self.acc)) and math.isfinite(or_nan(self.bwt))


@dataclass(frozen=True)
class AccAgainstBwt:
    """A picture of many experiments.

    Attributes:
        results: The experiments; those without ACC or BWT are left out.
    """

    results: Sequence[Result]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, inches."""
        return _WIDTH, 3.1 + self._legend.height

    def draw(self, figure: AnyFigure) -> None:
        """Draw it into an empty figure."""
        axes = figure.add_subplot()
        heading(axes, "Accuracy against backward transfer")
        if not any(result.is_known for result in self.results):
            say_nothing_is_there(axes, "backward transfer needs two tasks")
            return
        for index, result in enumerate(self.results):
            if not result.is_known:
                continue
            # By its place among all: an experiment has one colour in every picture.
            colour = COLOURS[index % len(COLOURS)]
            place = ([or_nan(result.bwt)], [or_nan(result.acc)])
            deviations = (result.acc_std, result.bwt_std)
            axes.errorbar(*place, *deviations, "none", ecolor=colour, elinewidth=1, capsize=2)
            axes.plot(
                *place,
                color=colour,
                marker="*" if result.is_published else MARKERS[index % len(MARKERS)],
                markersize=9 if result.is_published else 6,
                # Hollow: one seed, of which nobody knows the spread.
                markerfacecolor=colour if result.acc_std is not None else "none",
                linestyle="none",
                label=label(result.name),
            )
        axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
        axes.margins(0.12)
        axes.set(xlabel="BWT, points (left: forgotten)", ylabel="ACC, %")
        self._legend.draw(figure)

    @property
    def _legend(self) -> Legend:
        return Legend([result.name for result in self.results], _WIDTH)
