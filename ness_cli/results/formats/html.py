"""One page with everything: it opens anywhere, without a network, and runs no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ness_cli.plots.picture import INSTALL, is_possible
from ness_cli.results.experiment_pictures import side_by_side
from ness_cli.results.metrics import metrics_table
from ness_cli.results.page import elements
from ness_cli.results.page.experiment import experiments, links
from ness_cli.results.page.style import STYLE
from ness_cli.results.published import published_table
from ness_cli.results.table import Paragraph, Table
from ness_cli.words import counted, few

if TYPE_CHECKING:
    from ness_cli.results.report import Report

SUFFIX = "html"
_WIDTH = 400  # for which tables choose their layout: no name is broken, a browser does that
# Nothing is loaded from anywhere, and nothing runs, whatever stands in a name.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(report: Report) -> str:
    """Return the page."""
    names = report.experiment_names
    num_groups, num_runs = len(report.groups), len(report.runs)
    presets = few(sorted({group.preset for group in report.groups}))
    title = f"{counted(num_groups, 'experiment')}, {counted(num_runs, 'run')}: {presets}"
    body = [f"<h1>{elements.text(title)}</h1>", elements.paragraph(_units(report), "muted")]
    body += [elements.paragraph(line, "warning") for line in _warnings(report)]
    if report.groups:
        body += [_navigation(names), _overview(report, names)]
        body += experiments(report.groups, names)
        overview = report.overview(_WIDTH)
        rest = [part for part in report.summaries(_WIDTH) if part not in overview]
        body.append(elements.section("tables", "Every run", *_shown(rest)))
    metrics = elements.plain(metrics_table())
    body.append(elements.section("metrics", "What the metrics are", metrics))
    return _page(f"ness report: {title}", body)


def _page(title: str, body: Iterable[str]) -> str:
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{elements.text(title)}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        *(part for part in body if part),
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _units(report: Report) -> str:
    units = "Percent on test images, unless something else is said."
    if any(len(group.furthest) > 1 for group in report.groups):
        return f"{units} ± is the sample standard deviation over seeds."
    return f"{units} Every experiment is a single seed: nothing is known of its spread."


def _warnings(report: Report) -> list[str]:
    found = [f"Left out: {line}" for line in (*report.damaged, *report.left_out)]
    missing = f"Without drawings: matplotlib is not installed ({INSTALL})."
    return found if is_possible() else [*found, missing]


def _navigation(names: Sequence[str]) -> str:
    overview, rest = ("overview", "Overview"), [("tables", "Every run"), ("metrics", "Metrics")]
    items = "".join(
        f'<li><a href="#{elements.text(place)}">{elements.text(name)}</a></li>'
        for place, name in (overview, *links(names), *rest)
    )
    return f'<nav aria-label="Parts of this page"><ul>{items}</ul></nav>'


def _overview(report: Report, names: Sequence[str]) -> str:
    published = published_table(report.groups, names)
    return elements.section(
        "overview",
        "Overview",
        *_shown(report.overview(_WIDTH)),
        elements.plain(published) if published else "",
        elements.side_by_side(elements.drawings(side_by_side(report.groups, names))),
    )


def _shown(parts: Iterable[Table | Paragraph]) -> list[str]:
    return [
        elements.plain(part)
        if isinstance(part, Table)
        else elements.paragraph(part.text, "muted" if part.is_faint else "")
        for part in parts
    ]
