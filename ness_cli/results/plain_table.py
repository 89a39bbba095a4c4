"""Tables that survive copy and paste: no lines, numbers right-aligned, a title above."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text


def plain_table(*columns: str, left: int = 1) -> Table:
    """Return an empty table whose first ``left`` columns are words and the others numbers.

    Words fold where space is short; numbers never do.
    """
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        is_text = index < left
        table.add_column(
            column,
            justify="left" if is_text else "right",
            no_wrap=not is_text,
            overflow="fold",
            header_style="dim",
        )
    return table


def titled(title: str, table: Table, *notes: str) -> Group:
    """Return a table with a title above and notes below.

    rich's own titles and captions are folded to the width of the table, which may be narrow.
    """
    below = [Text(note, style="dim") for note in notes if note]
    return Group(Text(title, style="bold"), table, *below)
