"""What images were recognised as: how many rightly, what was taken for what, and tables of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.results.number_formats import percent
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.words import counted

_MOST_CONFUSIONS = 10
_CELL, _NAME = 6, 16  # columns of a number, and of a class and its count


@dataclass(frozen=True)
class Confusion:
    """Images in folders named after classes, and what they were recognised as.

    Attributes:
        counts: Number of images by class and by the class that they were taken for.
        outside: Number of images in folders that are named after none of the classes, by folder;
            they are in no other number.
    """

    counts: Mapping[tuple[str, str], int]
    outside: Mapping[str, int]

    @classmethod
    def of(
        cls, pairs: Sequence[tuple[str, str]], outside: Sequence[str], classes: Sequence[str]
    ) -> Confusion:
        """Return the counts of pairs of a class and what it was taken for, in order of classes."""
        places = {name: place for place, name in enumerate(dict.fromkeys(classes))}
        counts = Counter(pairs)
        ordered = sorted(counts, key=lambda pair: (places[pair[0]], places[pair[1]]))
        return cls({pair: counts[pair] for pair in ordered}, dict(Counter(outside)))

    @property
    def num_images(self) -> int:
        """Images of known classes."""
        return sum(self.counts.values())

    @property
    def num_right(self) -> int:
        """Those recognised rightly."""
        return sum(n for (true, found), n in self.counts.items() if true == found)

    @property
    def accuracy(self) -> float | None:
        """Share of them, percent; ``None`` without images."""
        return 100 * self.num_right / self.num_images if self.num_images else None

    def of_class(self, name: str) -> tuple[int, int]:
        """Return how many images of a class are right, and how many there are."""
        own = {found: n for (true, found), n in self.counts.items() if true == name}
        return own.get(name, 0), sum(own.values())

    def document(self) -> dict[str, Any]:
        """Return plain values."""
        rows = [
            {"class": true, "recognised_as": found, "images": n}
            for (true, found), n in self.counts.items()
        ]
        return {
            "accuracy": self.accuracy,
            "right": self.num_right,
            "images": self.num_images,
            "confusion": rows,
            "outside": dict(self.outside),
        }

    def tables(self, width: int) -> Table:
        """Return accuracy and confusions: all of them if they fit, else the most frequent."""
        title = f"{self.num_right} of {counted(self.num_images, 'image')} right"
        if self.accuracy is not None:
            title += f": {percent(self.accuracy)} %"
        notes = [
            f"not counted: {counted(n, 'image')} in {name!r}, which is no class asked for"
            for name, n in self.outside.items()
        ]
        names = list(dict.fromkeys(name for pair in self.counts for name in pair))
        if _NAME + sum(max(_CELL, len(name) + 1) for name in names) <= width:
            return titled(title, self._matrix(names), *notes)
        return titled(title, self._most_frequent(), *notes)

    def _matrix(self, names: Sequence[str]) -> Table:
        table = plain_table("class", *names)
        for true in dict.fromkeys(true for true, _ in self.counts):
            row = (self.counts.get((true, found), 0) for found in names)
            table.add_row(true, *(str(n) if n else "." for n in row))
        return table

    def _most_frequent(self) -> Any:
        wrong = {pair: n for pair, n in self.counts.items() if pair[0] != pair[1]}
        table = plain_table("class", "recognised as", "images", "of", left=2)
        for (true, found), n in sorted(wrong.items(), key=lambda item: -item[1])[:_MOST_CONFUSIONS]:
            table.add_row(true, found, str(n), str(self.of_class(true)[1]))
        return table


def prediction_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return a line per image: its file, and what it may be.

    Args:
        rows: As in the document of ``ness predict``.
        title: Which classes compete.
    """
    others = max((len(row["top"]) for row in rows), default=1) > 1
    table = plain_table("image", "label", *(["or"] if others else []), "task", "%", left=2 + others)
    for row in rows:
        rest = ", ".join(
            f"{each['label']} {100 * each['confidence']:.1f}" for each in row["top"][1:]
        )
        cells = [row["file"], row["label"], *([rest] if others else []), str(row["task"])]
        table.add_row(*cells, f"{100 * row['confidence']:.1f}")
    return titled(title, table)
