"""LaTeX tables for a paper: booktabs, the best of every column in bold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ness_cli.results.table import Cell, Row, Table

if TYPE_CHECKING:
    from ness_cli.results.report import Report

SUFFIX = "tex"
_WIDTH = 100  # for which tables choose their layout: about what a page has room for
_FOLDED = 45  # characters, from which a cell of words is folded
_ESCAPES = {
    "\\": r"\textbackslash{}",
    **{c: rf"\{c}" for c in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", '"': r"\textquotedbl{}"},
    **{"[": "{[}", "*": "{*}", "`": r"\textasciigrave{}", "\n": ""},
}
_SPECIAL = re.compile("|".join(map(re.escape, _ESCAPES)))
_SIGN = re.compile(r"^-(?=\d)")
_DASH = re.compile(r"-(?=-)")


def render(report: Report) -> str:
    """Return the report as a piece of a document, for its command ``input``."""
    lines = [r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}"]
    for part in report.parts(_WIDTH):
        lines.append("")
        lines += _table(part) if isinstance(part, Table) else [escaped(part.text)]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return text in which nothing is a command; a bracket or star at the start of a row neither.

    Two hyphens are kept apart: they would make a dash.
    """
    return _DASH.sub("-{}", _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text))


def _table(table: Table) -> Iterator[str]:
    yield r"\begin{table}"
    yield r"  \centering"
    yield rf"  \caption{{{escaped(table.title)}}}"
    if table.columns:
        yield rf"  \begin{{tabular}}{{{_spec(table)}}}"
        yield r"    \toprule"
        yield f"    {_joined([escaped(column.name) for column in table.columns])}"
        yield r"    \midrule"
        best = [table.best(index) for index in range(len(table.columns))]
        for row in table.rows:
            yield f"    {_joined(_cells(row, best))}"
        yield r"    \bottomrule"
        yield r"  \end{tabular}"
    for note in table.notes:
        yield rf"  \par\footnotesize {escaped(note)}"
    yield r"\end{table}"


def _spec(table: Table) -> str:
    """Return how columns are set; words that would fill a line of their own are folded."""
    widest = [0] * len(table.columns)
    for row in table.rows:
        for index, cell in enumerate(row.cells):
            widest[index] = max(widest[index], len(cell.text))
    folded = [c.is_text and width > _FOLDED for c, width in zip(table.columns, widest, strict=True)]
    share = 0.7 / max(1, sum(folded))
    return "".join(
        rf"p{{{share:.2g}\linewidth}}" if is_folded else "l" if column.is_text else "r"
        for column, is_folded in zip(table.columns, folded, strict=True)
    )


def _cells(row: Row, best: list[list[Row]]) -> list[str]:
    return [
        _cell(cell, is_bold=cell.is_bold or any(row is each for each in best[index]))
        for index, cell in enumerate(row.cells)
    ]


def _cell(cell: Cell, *, is_bold: bool) -> str:
    text = _SIGN.sub("$-$", escaped(cell.text))
    return rf"\textbf{{{text}}}" if is_bold and text else text


def _joined(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
