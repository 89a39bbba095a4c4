"""Text for a terminal, that survives copy and paste: no lines, numbers right-aligned."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ness_cli.results.table import Cell, Row, Table

if TYPE_CHECKING:
    from ness_cli.results.report import Report

SUFFIX = ""  # not a file of --save: others say the same and more


def render(report: Report, width: int = 100) -> str:
    """Return the report for lines of ``width`` columns, without styles."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(report)
    return file.getvalue()


def as_rich(table: Table) -> RenderableType:
    """Return a table as rich prints it.

    rich's own titles and captions are folded to the width of the table, which may be narrow.
    """
    grid = RichTable(box=None, pad_edge=False)
    for column in table.columns:
        grid.add_column(
            Text(column.name),
            justify="left" if column.is_text else "right",
            no_wrap=column.no_wrap,
            overflow="fold",
            header_style="dim",
            style="bold" if column.is_bold else "",
        )
    for row in table.rows:
        grid.add_row(*map(_text, row.cells), style=_style(row))
    title = [Text(table.title, style="bold")] if table.title else []
    body = [grid] if table.columns else []
    return Group(*title, *body, *(Text(note, style="dim") for note in table.notes))


def _text(cell: Cell) -> Text:
    return Text(cell.text, style="bold" if cell.is_bold else "")


def _style(row: Row) -> str:
    return "dim" if row.is_faint else ""
