"""Colours of numbers: light where they are small, dark blue where they are large.

The lightness alone tells them apart, so they read the same for every kind of colour vision and in
print. Needs no matplotlib: the tables of pages have the same colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

_ANCHORS = ((242, 247, 252), (190, 215, 237), (107, 165, 212), (33, 102, 168), (8, 48, 107))
_SMALLEST_SPAN = 20.0


def span(values: Iterable[float | None]) -> tuple[float, float]:
    """Return between which tens the colours of percentages are spread, at least 20 apart.

    A narrower range would make a drama of tenths of a percent.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return 0.0, 100.0
    high = max(_SMALLEST_SPAN, 10.0 * math.ceil(max(known) / 10))
    return min(10.0 * math.floor(min(known) / 10), high - _SMALLEST_SPAN), high


def colour(value: float, low: float, high: float) -> str:
    """Return the colour of a number between ``low`` and ``high``: ``#2166a8``."""
    share = min(1.0, max(0.0, (value - low) / (high - low))) * (len(_ANCHORS) - 1)
    index = min(int(share), len(_ANCHORS) - 2)
    part = share - index
    pairs = zip(_ANCHORS[index], _ANCHORS[index + 1], strict=True)
    return "#" + "".join(f"{round(a + part * (b - a)):02x}" for a, b in pairs)


def ink_on(background: str) -> str:
    """Return black or white, whichever has more contrast with a colour (WCAG 2.2)."""
    light = luminance(background)
    return "#000000" if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else "#ffffff"


def luminance(shade: str) -> float:
    """Return the relative luminance of a colour ``#rrggbb``, in 0..1 (WCAG 2.2)."""
    channels = [int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
