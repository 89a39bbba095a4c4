"""Numbers for people: bytes, counts, seconds, percent."""

from __future__ import annotations

from ness_cli.words import fixed


def human_bytes(size: int) -> str:
    """Return a size in decimal units: ``1.2 MB``."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        # 999.96 kB would round to 1000.0 kB.
        if value < 999.95 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable: the last unit always returns")


def human_count(number: int) -> str:
    """Return a number in thousands or millions: ``9.2 k``, ``1.3 M``."""
    for unit, value in (("", number), ("k", number / 1e3), ("M", number / 1e6)):
        # 999.96 k would round to 1000.0 k.
        if value < 999.95 or unit == "M":
            return f"{value:.1f} {unit}" if unit else f"{number}"
    raise AssertionError("unreachable: the last unit always returns")


def human_seconds(seconds: float) -> str:
    """Return a duration: ``0.4 s``, ``3 m 20 s``, ``2 h 05 m``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m"


def percent(value: float | None) -> str:
    """Return a percentage with two decimals, a dash for what was not measured."""
    return "-" if value is None else fixed(value)
