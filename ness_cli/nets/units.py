"""The units of a backbone: who produces them and who consumes them.

A method that masks units has to know whose rows make a unit and whose columns read it. What a
backbone adds up shares its units: the outputs of all blocks along an identity shortcut are one set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEADS = "heads"
"""In place of a layer's name: the heads of all tasks, which lie outside of the backbone."""


@dataclass(frozen=True)
class Consumer:
    """A layer that reads units.

    Attributes:
        layer: Its name in the backbone, or ``HEADS``.
        columns: How many columns of its weight, seen as ``[out, d]``, belong to one unit: 1 in a
            linear layer, the size of its kernel in a convolution, the positions of the image in a
            linear layer that sees it flattened. Unit j has ``[j * columns, (j + 1) * columns)``.
    """

    layer: str
    columns: int = 1


@dataclass(frozen=True)
class Units:
    """Units (features, channels) that one mask gates; names are those in the backbone.

    Attributes:
        activations: The modules that put them out, along dimension 1, in the order of computation.
        count: How many there are.
        producers: The layers whose outputs they are: row i of a weight, entry i of a bias.
        norms: The normalisation layers between producers and activations, with an entry per unit.
        consumers: The layers that read them.
    """

    activations: tuple[str, ...]
    count: int
    producers: tuple[str, ...]
    norms: tuple[str, ...]
    consumers: tuple[Consumer, ...]


def units_in_a_row(
    layers: Sequence[str], counts: Sequence[int], columns: Sequence[int], *, has_norms: bool
) -> tuple[Units, ...]:
    """Return the units of layers that follow one another, each with ``norm<i>`` and ``relu<i>``.

    Args:
        layers: Names of the layers.
        counts: Outputs of each.
        columns: How many columns belong to one unit, in each layer after the first and the head.
        has_norms: Whether there are norms.
    """
    readers = (*layers[1:], HEADS)
    return tuple(
        Units(
            activations=(f"relu{index}",),
            count=count,
            producers=(layer,),
            norms=(f"norm{index}",) if has_norms else (),
            consumers=(Consumer(reader, width),),
        )
        for index, (layer, count, reader, width) in enumerate(
            zip(layers, counts, readers, columns, strict=True), start=1
        )
    )
