"""One tidy table for spreadsheets and data frames: a row per run, then a row per group of seeds.

Column names are those of the JSON document; numbers are whole, percent and seconds and bytes, and
what is not known is empty. A row of a group has means, and deviations in columns of their own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ness_cli.results.accuracy_matrix import total
from ness_cli.results.metrics import NAMES
from ness_cli.results.summary import METRICS
from ness_cli.words import printable

if TYPE_CHECKING:
    from ness_cli.results.report import Report

SUFFIX = "csv"
_FACTS = ("preset", "method", "method_label", "seed", "num_tasks", "tasks_done")
_STEPS = ("train", "build", "evaluate")
_OTHERS = (("class", "class_incremental"), ("validation", "validation"))
COLUMNS = (
    *("kind", "name", *_FACTS, "num_seeds"),
    *(column for name in NAMES for column in (name, f"{name}_std")),
    *(
        f"{short}_{name}"
        for short, _ in _OTHERS
        for name in METRICS
        if f"{short}_{name}" not in NAMES
    ),
    *(f"{step}_seconds" for step in _STEPS),
    *("bytes_written", "peak_memory_bytes"),
)


def render(report: Report) -> str:
    """Return the rows with a line of column names above."""
    file, document = io.StringIO(), report.document()
    writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in (*map(_run, document["runs"]), *map(_group, document["groups"])):
        writer.writerow({key: _plain(value) for key, value in row.items()})
    return file.getvalue()


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    row = {"kind": "run", "name": run["path"], **run}
    row |= {f"{step}_seconds": total(run["seconds"][step]) for step in _STEPS}
    row["bytes_written"] = total(run["bytes_written"])
    for short, key in _OTHERS:
        row |= {f"{short}_{name}": (run[key] or {}).get(name) for name in METRICS}
    return {**row, **run["metrics"]}


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    row = {"kind": "group", "num_seeds": len(group["seeds"]), **group}
    for name, spread in group["metrics"].items():
        row[name], row[f"{name}_std"] = spread["mean"], spread["std"]
    return row


def _plain(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value
