"""Markdown with tables, as GitHub and most editors show it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ness_cli.results.table import Cell, Table
from ness_cli.words import printable

if TYPE_CHECKING:
    from ness_cli.results.report import Report

SUFFIX = "md"
_WIDTH = 160  # for which tables choose their layout: lines are folded by whoever shows them
_MARKUP = re.compile(r"([\\`*_\[\]<>|~&$#])")
_LIST = re.compile(r"^(\d*)([-+.)])")  # what would begin a list at the start of a line


def render(report: Report) -> str:
    """Return the report, a paragraph or a table after another."""
    parts = report.parts(_WIDTH)
    blocks = [
        block
        for part in parts
        for block in (_blocks(part) if isinstance(part, Table) else [_line(part.text)])
    ]
    return "\n\n".join(blocks) + "\n"


def escaped(text: str) -> str:
    """Return text in which nothing is markup, on one line."""
    return _MARKUP.sub(r"\\\1", printable(text, keep="\n").replace("\n", ""))


def _line(text: str) -> str:
    return _LIST.sub(r"\1\\\2", escaped(text))


def _blocks(table: Table) -> Iterator[str]:
    if table.title:
        yield f"**{escaped(table.title)}**"
    if table.columns:
        heads = _row([Cell(column.name) for column in table.columns])
        rule = "".join("| :-- " if column.is_text else "| --: " for column in table.columns) + "|"
        empty = Cell("")
        missing = [[empty] * (len(table.columns) - len(row.cells)) for row in table.rows]
        rows = [_row([*row.cells, *rest]) for row, rest in zip(table.rows, missing, strict=True)]
        yield "\n".join([heads, rule, *rows])
    yield from map(_line, table.notes)


def _row(cells: list[Cell]) -> str:
    texts = [f"**{escaped(c.text)}**" if c.is_bold and c.text else escaped(c.text) for c in cells]
    return "".join(f"| {text} " for text in texts) + "|"
