"""What ``ness doctor`` found, each with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ness_cli.results.table import Table, plain_table, titled
from ness_cli.words import counted


@dataclass(frozen=True)
class Finding:
    """Something that was looked at.

    Attributes:
        name: What: ``threads``.
        status: ``good``; ``note``, where something could be better; ``problem``, where something
            does not work.
        found: How it is.
        remedy: What to do about a note or a problem.
    """

    name: str
    status: Literal["good", "note", "problem"]
    found: str
    remedy: str = ""

    @classmethod
    def good(cls, name: str, found: str) -> Finding:
        """Return one that needs nothing."""
        return cls(name, "good", found)

    @classmethod
    def note(cls, name: str, found: str, remedy: str) -> Finding:
        """Return one that could be better."""
        return cls(name, "note", found, remedy)

    @classmethod
    def problem(cls, name: str, found: str, remedy: str) -> Finding:
        """Return one that does not work."""
        return cls(name, "problem", found, remedy)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "remedy": self.remedy or None}


def findings_table(found: Sequence[Finding]) -> Table:
    """Return a row per finding, and below those that are not good a row with the remedy."""
    table = plain_table("", "looked at", "found", left=3)
    for each in found:
        table.add_row("" if each.status == "good" else each.status, each.name, each.found)
        if each.remedy:
            table.add_row("", "", f"fix: {each.remedy}")
    counts = {status: sum(f.status == status for f in found) for status in ("problem", "note")}
    words = [counted(number, status) for status, number in counts.items() if number]
    return titled("This machine", table, ", ".join(words) or "all is good")
