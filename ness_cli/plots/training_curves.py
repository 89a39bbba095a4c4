"""Training curves: loss and validation accuracy of every epoch of every task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ness_cli.plots.picture import COLOURS, FAINT, heading, say_nothing_is_there

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ness_cli.plots.picture import AnyFigure

_MOST_NUMBERS = 12  # of tasks, above the curves


@dataclass(frozen=True)
class TrainingCurves:
    """A picture of training.

    Attributes:
        whose: Whose training it was.
        epochs: By task what its epochs recorded, in order: ``train_loss``, and with validation
            images ``valid_loss`` and ``valid_accuracy`` (percent).
    """

    whose: str
    epochs: Mapping[int, Sequence[Mapping[str, Any]]]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, inches."""
        return 4.8, 4.2 if self._has("valid_accuracy") else 2.6

    def draw(self, figure: AnyFigure) -> None:
        """Draw it into an empty figure."""
        from matplotlib.ticker import MaxNLocator

        has_accuracy = self._has("valid_accuracy")
        panels = list(figure.subplots(1 + has_accuracy, 1, sharex=True, squeeze=False).flat)
        loss = panels[0]
        heading(loss, "Training", self.whose, pad=14)
        if not self._has("train_loss"):
            say_nothing_is_there(loss, "no epoch was recorded")
            return
        self._draw(loss, "train_loss", "training", 0)
        if self._has("valid_loss"):
            self._draw(loss, "valid_loss", "validation", 1)
            figure.legend(loc="outside lower left", ncols=2)
        loss.set_ylabel("loss")
        if has_accuracy:
            self._draw(panels[1], "valid_accuracy", "validation", 1)
            panels[1].set_ylabel("accuracy, %")
        panels[-1].set_xlabel("epoch, counted over tasks (numbers above)")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        self._mark_tasks(panels)

    def _has(self, key: str) -> bool:
        return any(
            _number(entry.get(key)) is not None for own in self.epochs.values() for entry in own
        )

    def _draw(self, axes: Axes, key: str, name: str, index: int) -> None:
        """Draw a line per task, so that none leads from the end of one to the next."""
        start = 0
        for own in self.epochs.values():
            values = [_number(entry.get(key)) for entry in own]
            axes.plot(
                [start + i + 1 for i in range(len(own))],
                [math.nan if value is None else value for value in values],
                color=COLOURS[index],
                linestyle="--" if index and key == "valid_loss" else "-",
                marker="." if len(own) == 1 else None,
                label="_" * bool(start) + name,
            )
            start += len(own)

    def _mark_tasks(self, panels: Sequence[Axes]) -> None:
        tasks = [task for task, own in self.epochs.items() if own]
        every, start = -(-len(tasks) // _MOST_NUMBERS), 0
        for index, task in enumerate(tasks):
            count = len(self.epochs[task])
            for panel in panels:
                panel.grid(visible=False, axis="x")
                if index % 2:
                    panel.axvspan(start + 0.5, start + count + 0.5, color=FAINT, alpha=0.25, lw=0)
            if index % every == 0 and len(tasks) > 1:
                where = panels[0].get_xaxis_transform()
                middle = start + (count + 1) / 2
                panels[0].text(middle, 1.01, str(task), transform=where, ha="center", fontsize=7)
            start += count
        panels[-1].set_xlim(0.5, start + 0.5)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
