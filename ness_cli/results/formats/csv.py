"""One tidy table for spreadsheets and data frames: a row per run, then a row per group of seeds.

Column names are those of the JSON document; numbers are whole, percent and seconds and bytes, and
what is not known is empty. A row of a group has means, and deviations in columns of their own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ness_cli.results.summary import METRICS
from ness_cli.words import printable

if TYPE_CHECKING:
    from ness_cli.results.report import Report

SUFFIX = "csv"
_FACTS = ("preset", "method", "method_label", "seed", "num_tasks", "tasks_done")
_STEPS = ("train", "build", "evaluate")
COLUMNS = (
    *("kind", "name", *_FACTS, "num_seeds"),
    *(column for name in METRICS for column in (name, f"{name}_std")),
    *(f"{protocol}_{name}" for protocol in ("class", "validation") for name in METRICS),
    *(f"{step}_seconds" for step in _STEPS),
    *("bytes_written", "memory_bytes", "peak_memory_bytes"),
    *("model_bytes", "image_bytes", "task_numbers", "step_seconds", "step_ratio"),
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
    row = {"kind": "run", "name": run["path"], **run["costs"], **run}
    row |= {f"{step}_seconds": _total(run["seconds"][step]) for step in _STEPS}
    row["bytes_written"] = _total(run["bytes_written"])
    for short, key in (("class", "class_incremental"), ("validation", "validation")):
        row |= {f"{short}_{name}": (run[key] or {}).get(name) for name in METRICS}
    return row


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    row = {"kind": "group", "num_seeds": len(group["seeds"]), **group}
    for name in METRICS:
        row[name], row[f"{name}_std"] = group[name]["mean"], group[name]["std"]
    return row


def _total(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _plain(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value
