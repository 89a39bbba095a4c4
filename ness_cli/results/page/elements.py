"""Pieces of a page. Whatever was read from a file is escaped here, and nowhere else."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

from ness_cli.plots.heat_map import HeatMap, written
from ness_cli.plots.picture import inline_svg, is_possible
from ness_cli.plots.ramp import colour, ink_on
from ness_cli.results.experiment_pictures import NamedPicture
from ness_cli.results.table import Column, Row, Table
from ness_cli.words import printable


def text(value: str) -> str:
    """Return text as it is shown: no markup in it counts, control characters are spelled out."""
    return html.escape(printable(value))


def paragraph(value: str, style: str = "") -> str:
    """Return a paragraph of text."""
    return f'<p class="{style}">{text(value)}</p>' if style else f"<p>{text(value)}</p>"


def section(name: str, title: str, *parts: str) -> str:
    """Return a part of the page with a heading that a link leads to.

    Args:
        name: Of the link.
        title: The heading.
        parts: Markup.
    """
    return "\n".join(
        [f'<section id="{text(name)}">', f"<h2>{text(title)}</h2>", *parts, "</section>"]
    )


def folded(summary: str, *parts: str) -> str:
    """Return markup that is shown when somebody asks for it."""
    return "\n".join([f"<details><summary>{text(summary)}</summary>", *parts, "</details>"])


def code(lines: Iterable[str]) -> str:
    """Return lines to be typed."""
    return f"<pre><code>{chr(10).join(map(text, lines))}</code></pre>"


def drawings(named: Sequence[NamedPicture]) -> list[str]:
    """Return drawings with what they show; nothing where none can be drawn."""
    if not is_possible():
        return []
    return [
        f"<figure>{inline_svg(each.picture, each.name, text(each.caption))}"
        f"<figcaption>{text(each.caption)}</figcaption></figure>"
        for each in named
    ]


def side_by_side(parts: Sequence[str]) -> str:
    """Return parts beside each other where there is room."""
    blocks = [f"<div>{part}</div>" for part in parts if part]
    return "\n".join(['<div class="pictures">', *blocks, "</div>"]) if blocks else ""


def plain(table: Table) -> str:
    """Return a table, its title and notes, the best of every column marked."""
    best = [table.best(index) for index in range(len(table.columns))]
    rows = [_row(row, table.columns, best) for row in table.rows]
    notes = [paragraph(note, "note") for note in table.notes]
    if not table.columns:
        return "\n".join([paragraph(table.title, "bold"), *notes])
    heads = "".join(
        f'<th scope="col"{_style("words" if column.is_text else "")}>{text(column.name)}</th>'
        for column in table.columns
    )
    lines = [f"<thead><tr>{heads}</tr></thead>", "<tbody>", *rows, "</tbody>"]
    return "\n".join([_scrolling(table.title, "", lines), *notes])


def heat_map(picture: HeatMap, caption: str, *, has_means: bool = False) -> str:
    """Return numbers as a coloured table.

    Args:
        picture: The numbers, their names and the limits of the colours.
        caption: What stands above.
        has_means: Show the mean of every row behind it.
    """
    if not picture.cells:
        return paragraph(f"{caption}: nothing measured yet", "muted")
    mean = '<th scope="col">mean</th>' if has_means else ""
    heads = "".join(f'<th scope="col">{text(name)}</th>' for name in picture.columns)
    corner = f'<th scope="col" class="words">{text(picture.y_label)}</th>'
    lines = [f"<thead><tr>{corner}{heads}{mean}</tr></thead>", "<tbody>"]
    for name, row in zip(picture.rows, picture.cells, strict=True):
        known = [value for value in row if _is_known(value)]
        mean = f'<td class="mean">{_mean(known)}</td>' if has_means else ""
        cells = "".join(_heat_cell(value, picture.limits) for value in row)
        beside = f'<th scope="row" title="{text(name)}">{text(name)}</th>'
        lines.append(f"<tr>{beside}{cells}{mean}</tr>")
    return _scrolling(caption, "heat", [*lines, "</tbody>"])


def _scrolling(caption: str, style: str, lines: Sequence[str]) -> str:
    """Return a table that scrolls by itself where it is too wide, with keys too."""
    title = paragraph(caption, "title") if caption else ""
    label = text(caption or "Table")
    opening = f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">'
    return "\n".join([f"{title}{opening}<table{_style(style)}>", *lines, "</table></div>"])


def _row(row: Row, columns: Sequence[Column], best: Sequence[Sequence[Row]]) -> str:
    cells = []
    for index, column in enumerate(columns):
        cell = row.cells[index] if index < len(row.cells) else None
        styles = ["words"] * column.is_text
        if cell is not None:
            styles += ["bold"] * (cell.is_bold or column.is_bold)
            styles += ["best"] * any(row is each for each in best[index])
        # Names were broken into lines for a console; a browser finds its own places.
        shown = "" if cell is None else text(cell.text.replace("\n", ""))
        # A row is called by its first cell; where the browser reads it aloud, that comes with each.
        tag, scope = ("td", "") if index else ("th", ' scope="row"')
        cells.append(f"<{tag}{scope}{_style(' '.join(styles))}>{shown}</{tag}>")
    return f"<tr{_style('faint' if row.is_faint else '')}>{''.join(cells)}</tr>"


def _heat_cell(value: float | None, limits: tuple[float, float]) -> str:
    if value is None or not math.isfinite(value):
        return "<td></td>"
    shade = colour(value, *limits)
    return f'<td style="background:{shade};color:{ink_on(shade)}">{written(value)}</td>'


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _mean(known: Sequence[float | None]) -> str:
    values = [value for value in known if value is not None]
    return written(sum(values) / len(values)) if values else "-"


def _style(name: str) -> str:
    return f' class="{name}"' if name else ""
