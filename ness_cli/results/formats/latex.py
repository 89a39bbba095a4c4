"""LaTeX tables for a paper: booktabs, the best of every column in bold.

A table that is wider than a line is made smaller, one that no page has room for goes on over the
next ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ness_cli.results.table import Cell, Row, Table
from ness_cli.words import printable

if TYPE_CHECKING:
    from ness_cli.results.report import Report

SUFFIX = "tex"
_WIDTH = 78  # characters of a line in small print, for which tables choose their layout
_LINES = 40  # of a page in small print, with what stands above and below a table
_BETWEEN = 2  # characters between two columns
_FOLDED = 30  # characters, from which a cell of words is folded
_ESCAPES = {
    "\\": r"\textbackslash{}",
    **{c: rf"\{c}" for c in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", '"': r"\textquotedbl{}"},
    **{"[": "{[}", "*": "{*}", "`": r"\textasciigrave{}", "\n": r"\allowbreak{}"},
}
_SPECIAL = re.compile("|".join(map(re.escape, _ESCAPES)))
_SIGN = re.compile(r"^-(?=\d)")
_LIGATURE = re.compile(r"([-,'])(?=\1)")
_NEEDS = r"% needs \usepackage{booktabs,graphicx,longtable} and \usepackage[T1]{fontenc}"
_LONG_WORD, _JOINT = re.compile(r"\S{20,}"), re.compile(r"(?<=[./_])(?=\w)")
_STYLE = r"\small\setlength{\tabcolsep}{4pt}"
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"


def render(report: Report) -> str:
    """Return the report as a piece of a document, for its command ``input``."""
    parts = report.parts(_WIDTH)
    blocks = [_table(part) if isinstance(part, Table) else [escaped(part.text)] for part in parts]
    lines = [line for block in blocks for line in ("", *block)]
    return "\n".join([_NEEDS, *lines]) + "\n"


def escaped(text: str) -> str:
    """Return text in which nothing is a command; a bracket or star at the start of a row neither.

    Two hyphens, commas or apostrophes are kept apart: together they would be another sign.
    """
    marked = _SPECIAL.sub(lambda match: _ESCAPES[match[0]], printable(text, keep="\n"))
    return _LIGATURE.sub(r"\1{}", marked)


def _table(table: Table) -> list[str]:
    caption = rf"  \caption{{{escaped(table.title)}}}"
    notes = [r"  \par\smallskip\footnotesize"] * bool(table.notes)
    notes += [rf"  {escaped(note)}\par" for note in table.notes]
    if not table.columns:
        return [r"\begin{table}", r"  \centering", caption, *notes, r"\end{table}"]
    shares = _shares(table)
    spec = f"{{{_spec(table, shares)}}}"
    names = _joined([escaped(column.name) for column in table.columns])
    head = [r"    \toprule", f"    {names}", r"    \midrule"]
    best = [table.best(index) for index in range(len(table.columns))]
    rows = [f"    {_joined(_cells(row, best, shares))}" for row in table.rows]
    if _num_lines(table, shares) > _LINES:
        begin = [r"\begingroup", f"  {_STYLE}", rf"  \begin{{longtable}}{spec}", rf"  {caption} \\"]
        first, later = [*head, r"    \endfirsthead"], [*head, r"    \endhead"]
        end = [r"  \end{longtable}", *notes, r"\endgroup"]
        return [*begin, *first, *later, r"    \bottomrule", r"    \endfoot", *rows, *end]
    begin = [r"\begin{table}", rf"  \centering{_STYLE}", caption, r"  \smallskip"]
    begin += [rf"  {_FITTED}{{\begin{{tabular}}{spec}", *head]
    return [*begin, *rows, r"    \bottomrule", r"  \end{tabular}}", *notes, r"\end{table}"]


def _shares(table: Table) -> list[float]:
    """Return which part of a line each column of long words has; 0 of those as wide as they are."""
    widths = [len(column.name) for column in table.columns]
    broken = [False] * len(widths)  # names that were too long for a line of their own
    for row in table.rows:
        for index, cell in enumerate(row.cells):
            widths[index] = max(widths[index], len(cell.text))
            broken[index] |= "\n" in cell.text
    folded = [
        column.is_text and (is_broken or width > _FOLDED)
        for column, width, is_broken in zip(table.columns, widths, broken, strict=True)
    ]
    taken = sum(_BETWEEN + width * (not fold) for width, fold in zip(widths, folded, strict=True))
    left = max(0.4, 1 - taken / _WIDTH)
    # By the roots: a column of sentences would leave one of names no room.
    roots = [math.sqrt(width) * fold for width, fold in zip(widths, folded, strict=True)]
    return [left * root / max(1.0, sum(roots)) for root in roots]


def _num_lines(table: Table, shares: Sequence[float]) -> int:
    """Return about how many lines the rows of a table take."""
    heights = [
        [math.ceil(len(cell.text) / (share * _WIDTH)) if share else 1 for cell, share in pairs]
        for pairs in (zip(row.cells, shares, strict=False) for row in table.rows)
    ]
    return sum(max(own, default=1) for own in heights)


def _spec(table: Table, shares: Sequence[float]) -> str:
    """Return how columns are set."""
    return "".join(
        rf"p{{{share:.2g}\linewidth}}" if share else "l" if column.is_text else "r"
        for column, share in zip(table.columns, shares, strict=True)
    )


def _cells(row: Row, best: list[list[Row]], shares: Sequence[float]) -> list[str]:
    are_best = [any(row is each for each in best[index]) for index in range(len(row.cells))]
    return [
        _cell(cell, is_bold=cell.is_bold or is_best, is_folded=share > 0)
        for cell, is_best, share in zip(row.cells, are_best, shares, strict=False)
    ]


def _cell(cell: Cell, *, is_bold: bool, is_folded: bool) -> str:
    text = _SIGN.sub("$-$", escaped(cell.text))
    if is_folded:
        text = _LONG_WORD.sub(lambda word: _JOINT.sub(r"\\allowbreak{}", word[0]), text)
    return rf"\textbf{{{text}}}" if is_bold and text else text


def _joined(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
