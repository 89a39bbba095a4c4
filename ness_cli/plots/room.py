"""Room: how much of every layer's input space is open to the next task."""

from __future__ import annotations

from collections.abc import Mapping

from ness_cli.plots.heat_map import HeatMap
from ness_cli.plots.picture import layer_label

_NAME_WIDTH = 24  # of a layer beside its row


def room(whose: str, open_percent: Mapping[int, Mapping[str, float]]) -> HeatMap:
    """Return the picture of the room that layers have left.

    Args:
        whose: Whose layers they are.
        open_percent: By task and layer, the share of directions that were open after it, percent.
    """
    layers = list(dict.fromkeys(name for own in open_percent.values() for name in own))
    return HeatMap(
        "Directions open to the next task, %",
        whose,
        [[own.get(layer) for own in open_percent.values()] for layer in layers],
        [layer_label(layer, _NAME_WIDTH) for layer in layers],
        [str(task) for task in open_percent],
        x_label="after task",
        y_label="layer",
        limits=(0.0, 100.0),
    )
