"""A table of results that knows no format: a title, columns, rows of plain cells, notes.

``results/formats/`` has what makes text, Markdown, LaTeX ... of it. rich, which prints to consoles,
shows it as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from rich.console import RenderableType
from rich.text import Text

from ness_cli.words import printable


@dataclass(frozen=True)
class Cell:
    """What stands in a row and a column.

    Attributes:
        text: As it is read; several lines where a name is too long for one.
        value: The number behind it, where it is one that others may be compared with.
        is_bold: Whether it stands out.
    """

    text: str
    value: float | None = None
    is_bold: bool = False


@dataclass
class Column:
    """How the cells of a column are set.

    Attributes:
        name: What stands above.
        is_text: Words, from the left; numbers stand at the right.
        no_wrap: Never to be folded where space is short.
        is_bold: Whether all of it stands out.
        better: 1 where more is better, -1 where less is, 0 where neither.
    """

    name: str
    is_text: bool
    no_wrap: bool
    is_bold: bool = False
    better: int = 0


@dataclass(frozen=True)
class Row:
    """Cells of all columns from the left; those that are left out are empty."""

    cells: tuple[Cell, ...]
    is_faint: bool = False


@dataclass(frozen=True)
class Table:
    """A table; rows are added to it, and ``titled`` gives it what stands above and below.

    Attributes:
        columns: From the left.
        rows: From the top.
        title: What stands above; empty if nothing.
        notes: Lines that stand below.
    """

    columns: tuple[Column, ...]
    rows: list[Row] = field(default_factory=list)
    title: str = ""
    notes: tuple[str, ...] = ()

    def add_row(self, *cells: str | Cell, is_faint: bool = False) -> None:
        """Add a row; what control characters there are, as in names of files, become visible.

        Only a ``Cell`` has several lines.
        """
        row = tuple(
            replace(cell, text=printable(cell.text, keep="\n"))
            if isinstance(cell, Cell)
            else Cell(printable(cell))
            for cell in cells
        )
        self.rows.append(Row(row, is_faint))

    def best(self, index: int) -> list[Row]:
        """Return the rows that have the best number of a column; none where nothing is better.

        Numbers count as equal that read the same.
        """
        better = self.columns[index].better
        cells = [(row, row.cells[index]) for row in self.rows if index < len(row.cells)]
        known = [(row, cell, cell.value) for row, cell in cells if cell.value is not None]
        if not better or len(known) < 2:
            return []
        best = max(known, key=lambda item: better * item[2])[1].text
        found = [row for row, cell, _ in known if cell.text == best]
        return found if len(found) < len(known) else []

    def __rich__(self) -> RenderableType:
        """Return it as rich prints it."""
        from ness_cli.results.formats.text import as_rich

        return as_rich(self)


@dataclass(frozen=True)
class Paragraph:
    """A line between tables."""

    text: str
    is_faint: bool = False

    def __rich__(self) -> RenderableType:
        """Return it as rich prints it."""
        return Text(printable(self.text), style="dim" if self.is_faint else "")


def plain_table(*columns: str, left: int = 1) -> Table:
    """Return an empty table whose first ``left`` columns are words and the others numbers.

    Words fold where space is short; numbers never do.
    """
    kinds = [(name, index < left) for index, name in enumerate(columns)]
    return Table(tuple(Column(printable(n), is_text, not is_text) for n, is_text in kinds))


def titled(title: str, table: Table, *notes: str) -> Table:
    """Return a table with a title above and notes below; empty notes are left out."""
    below = tuple(printable(note) for note in notes if note)
    return replace(table, title=printable(title), notes=below)


def apart(parts: Iterable[Table | Paragraph]) -> Iterator[RenderableType]:
    """Yield parts for rich to print, with an empty line between each two."""
    for index, part in enumerate(parts):
        yield from [""] * (index > 0)
        yield part
