"""What tables call runs: their paths, without what all of them begin with where space is short."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ness_cli.results.table import Cell
from ness_cli.words import printable


@dataclass(frozen=True)
class RunNames:
    """Names of runs for one table.

    Attributes:
        common: Folder that is left out of every name, or empty.
        space: Columns there are for a name.
    """

    common: str
    space: int

    @classmethod
    def of(cls, paths: Sequence[Path], space: int) -> RunNames:
        """Return names that leave out the common folder if one would be too long with it."""
        is_long = max((len(str(path)) for path in paths), default=0) > space
        is_mixed = len({path.is_absolute() for path in paths}) > 1
        if len(paths) < 2 or not is_long or is_mixed:
            return cls("", space)
        return cls(os.path.commonpath([path.parent for path in paths]), space)

    def name(self, path: Path) -> Cell:
        """Return the name of a run, in several lines where it is too long for one."""
        lines = [""]
        for part in _parts(self.in_one_line(path), self.space):
            if lines[-1] and len(lines[-1]) + len(part) > self.space:
                lines.append("")
            lines[-1] += part
        return Cell("\n".join(lines))

    def in_one_line(self, path: Path) -> str:
        """Return the name of a run, however long; line breaks in it are spelled out."""
        return printable(str(path.relative_to(self.common) if self.common else path))

    def title(self, text: str) -> str:
        """Return a title that says where the runs are."""
        return f"{text}; runs in {self.common}" if self.common else text


def _parts(path: str, space: int) -> Iterator[str]:
    """Yield the pieces between which a name may be broken: folders, and words of long ones."""
    for folder in re.split(f"(?<={re.escape(os.sep)})", path):
        yield from re.split(r"(?<=[-_. ])", folder) if len(folder) > space else [folder]
