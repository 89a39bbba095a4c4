"""Spectra of all layers' inputs, one panel a layer, one line a task, with the threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ness_cli.errors import InputError
from ness_cli.plots.picture import COLOURS, heading, label, layer_label, save
from ness_cli.plots.ramp import colour
from ness_cli.words import tasks_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ness_cli.plots.picture import AnyFigure

_COLUMNS = 2
_MOST_TASKS, _MOST_POINTS = 5, 160
_RED = COLOURS[1]
_DEPTH = 1e-8  # of the largest value: below are roundings


@dataclass(frozen=True)
class Spectra:
    """A picture of spectra.

    Attributes:
        whose: Whose spectra they are.
        layers: By task and layer ``sigma``, singular values in ascending order, and ``tau``, the
            threshold; not empty.
    """

    whose: str
    layers: Mapping[int, Mapping[str, Mapping[str, Any]]]

    @property
    def names(self) -> list[str]:
        """The layers, of the last task."""
        return list(self.layers[max(self.layers)])

    @property
    def tasks(self) -> list[int]:
        """The tasks that are shown: first, last, and some between."""
        tasks = sorted(self.layers)
        return [tasks[index] for index in evenly(len(tasks), _MOST_TASKS)]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, inches."""
        columns = min(_COLUMNS, len(self.names))
        return max(4.0, 2.4 * columns + 0.4), 1.8 * -(-len(self.names) // columns) + 0.9

    def draw(self, figure: AnyFigure) -> None:
        """Draw it into an empty figure."""
        columns = min(_COLUMNS, len(self.names))
        rows = -(-len(self.names) // columns)
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for panel, layer in zip(panels, self.names, strict=False):
            self._draw_layer(panel, layer)
        for panel in panels[len(self.names) :]:
            panel.set_visible(False)
        figure.supxlabel("share of directions, %", fontsize=9)
        figure.supylabel("singular value of the inputs", fontsize=9)
        shades = ", light to dark" if len(self.tasks) > 1 else ""
        about = f"after {tasks_in_words(self.tasks)}{shades}; dashed: threshold"
        figure.suptitle("\n".join(line for line in (label(self.whose, 48), about) if line))

    def _draw_layer(self, axes: Axes, layer: str) -> None:
        dim = 0
        for index, task in enumerate(self.tasks):
            if layer not in self.layers[task]:
                continue
            own = self.layers[task][layer]
            sigma, tau = own["sigma"], own["tau"]
            dim = len(sigma)
            floor = max(sigma[-1] * _DEPTH, 1e-30)
            shown = evenly(dim, _MOST_POINTS)
            shade = colour(0.35 + 0.4 * (index + 1) / len(self.tasks), 0, 1)
            percents = [100 * (i + 1) / dim for i in shown]
            axes.semilogy(percents, [max(sigma[i], floor) for i in shown], color=shade, lw=1.2)
            faint = 0.3 + 0.7 * (index + 1) / len(self.tasks)
            if math.isfinite(tau):
                axes.axhline(max(tau, floor), color=_RED, alpha=faint, lw=0.9, ls="--")
        axes.yaxis.set_major_formatter(_power_of_ten)
        axes.minorticks_off()
        heading(axes, f"{layer_label(layer, 13)}, d = {dim}")


def plot_spectra(
    whose: str, layers: Mapping[int, Mapping[str, Mapping[str, Any]]], path: Path
) -> None:
    """Draw the spectra of a run into a file.

    Args:
        whose: What the run is called.
        layers: As in ``Spectra``.
        path: Where to, as ``check_plot`` allows it.

    Raises:
        InputError: If there is no spectrum to draw.
    """
    if not layers:
        raise InputError(
            "--plot: the run has no spectra", "only methods with covariances keep them"
        )
    save(Spectra(whose, layers), path)


def _power_of_ten(value: float, position: float) -> str:
    """Return 10⁻³; pictures do not read the marks of formulas, which names may have in them."""
    power = math.log10(value) if value > 0 else 0.5
    superscripts = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    whole = round(power)
    return f"10{str(whole).translate(superscripts)}" if abs(power - whole) < 1e-6 else ""


def evenly(count: int, most: int) -> Sequence[int]:
    """Return ``most`` of ``count`` positions at most: the first, the last, and some between."""
    if count <= most:
        return range(count)
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})
