"""Numbers as people write them: counted things, and no minus before zero."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number and what it counts: ``1 task``, ``2 tasks``.

    Args:
        number: How many.
        noun: What one is called.
        plural: What several are called, where that is not ``noun`` and an s.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def few(names: Sequence[str], most: int = 8) -> str:
    """Return the first of many names, and how many there are besides: ``a, b and 3 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def ranges(numbers: Sequence[int]) -> str:
    """Return numbers as ranges: ``1 to 3, 5``.

    Args:
        numbers: Ascending, each once.
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(f"{r[0]} to {r[-1]}" if len(r) > 1 else str(r[0]) for r in found)


def tasks_in_words(numbers: Sequence[int]) -> str:
    """Return which tasks they are: ``task 4``, ``tasks 1 to 3, 5``."""
    return f"task{'s' * (len(numbers) > 1)} {ranges(numbers)}"


def fixed(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """Return a number with some decimals, and never ``-0.00``.

    Args:
        value: The number.
        digits: Decimals.
        signed: Put a sign before every number but zero.
    """
    # Rounded first: adding zero turns the minus zero that rounding may leave into zero.
    rounded = round(value, digits) + 0.0
    sign = "+" if signed and rounded > 0 else ""
    return f"{sign}{rounded:.{digits}f}"


def printable(text: str, *, keep: str = "") -> str:
    """Return text whose control characters, and what no encoding can write, are spelled out.

    The name of a file may have a line break in it, or codes that a terminal obeys.

    Args:
        text: Any text.
        keep: Characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )
