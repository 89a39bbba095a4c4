"""How far an accuracy may be off because its test images are few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z = 1.959963984540054  # the normal distribution's 97.5 % point: 95 % lie between -z and z


def wilson_half_width(accuracy: float, num_images: int) -> float:
    """Return half the width of the 95 % Wilson score interval of an accuracy.

    Unlike the standard error sqrt(p (1 - p) / n) it does not vanish at 0 and 100 %.

    Args:
        accuracy: Percent of the images that were right.
        num_images: Test images, at least 1.

    Returns:
        Points of percent.

    Source:
        Wilson 1927, JASA 22, 209-212; Brown, Cai and DasGupta 2001 recommend it for small samples.
    """
    p, n = accuracy / 100, num_images
    spread = math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return 100 * _Z / (1 + _Z**2 / n) * spread


@dataclass(frozen=True)
class Margins:
    """Half widths of the last row of accuracies, in points of percent.

    Attributes:
        tasks: Of every task.
        mean: Of their mean.
    """

    tasks: tuple[float, ...]
    mean: float

    @classmethod
    def of(
        cls, accuracies: Sequence[float | None], counts: Sequence[int | None], *, are_disjoint: bool
    ) -> Margins | None:
        """Return the margins of a row, or ``None`` where there is none or counts are unknown.

        Args:
            accuracies: Percent, per task; ``None`` where it is not known.
            counts: Test images, per task.
            are_disjoint: Whether no two tasks share test images.
        """
        known = [count for count in counts if count]
        scored = [value for value in accuracies if value is not None]
        if not scored or min(len(known), len(scored)) < len(accuracies):
            return None
        own = tuple(map(wilson_half_width, scored, known))
        return cls(own, mean_half_width(own, are_disjoint=are_disjoint))


def mean_half_width(half_widths: Sequence[float], *, are_disjoint: bool) -> float:
    """Return the half width of the mean of accuracies.

    Args:
        half_widths: That of each accuracy.
        are_disjoint: Whether no two were measured on the same images. Where they were, errors
            may add up in full, and the mean of the half widths is an upper bound.
    """
    total = math.hypot(*half_widths) if are_disjoint else math.fsum(half_widths)
    return total / len(half_widths)
