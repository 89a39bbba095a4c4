"""The forgetting meter as tables and as one line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ness_cli.results.forgetting_meter import ForgettingMeter
from ness_cli.results.run_names import RunNames
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.words import counted

if TYPE_CHECKING:  # it brings all settings along, and ``ness status`` needs none
    from ness_cli.results.read_run import RunResult

_TITLE = "Forgetting meter: rms change of layer outputs on earlier inputs (rho), %"
_SUMS = "sum, root: over updates, sum and root sum of squares, of the layer with most"
_POOLED = "~ groups share a covariance: measured as if each of them saw the inputs of all"
_CELL, _LAYER = 7, 24  # columns of a number, and of the name of a layer at most


def percent_of(value: float | None) -> str:
    """Return a fraction in percent: ``9.98``, ``<0.01``, ``inf``; a dash for ``None``."""
    if value is None:
        return "-"
    if 0 < value < 5e-5:
        return "<0.01"
    return f"{100 * value:.2f}" if math.isfinite(value) else "inf"


def meter_line(meter: ForgettingMeter) -> str:
    """Return the meter in one line; empty if nothing is known."""
    if not meter.updates:
        return ""
    update = meter.largest
    layer, rho = update.largest
    parts = [f"rho: rms change of layer outputs on earlier inputs, at most {_percent(rho)} {layer}"]
    if len(meter.updates) > 1:
        parts.append(f"summed {_most(meter.sums)}, root sum of squares {_most(meter.roots)}")
    if meter.share is not None:
        parts.append(f"{_percent(meter.share)} of the budget used")
    return "; ".join(parts)


def updates_table(meter: ForgettingMeter) -> Table | None:
    """Return a row per update; nothing if none is known."""
    if not meter.updates:
        return None
    has_budget = ["budget used"] * (meter.share is not None)
    table = plain_table("task", "layer moved most", "rho", "sum", "root", *has_budget, left=2)
    for update in meter.updates:
        so_far, (layer, rho) = meter.until(update.task), update.largest
        values = [rho, max(so_far.sums.values()), max(so_far.roots.values())]
        values += [update.share] * len(has_budget)  # type: ignore[list-item]
        mark = "~" * update.layers[layer].is_pooled
        table.add_row(str(update.task), layer + mark, *map(percent_of, values))
    return titled(_TITLE, table, _SUMS, _POOLED if meter.is_pooled else "", _missing(meter))


def meters_table(runs: Sequence[RunResult], names: RunNames) -> Table | None:
    """Return a row per run of which something is known; nothing if there is none."""
    shown = [run for run in runs if run.meter.updates]
    if not shown:
        return None
    table = plain_table(
        *("run", "layer moved most", "task", "rho", "sum", "root", "budget used"), left=2
    )
    for run in shown:
        meter = run.meter
        update, (layer, rho) = meter.largest, meter.largest.largest
        values = (rho, max(meter.sums.values()), max(meter.roots.values()), meter.share)
        mark = "~" * update.layers[layer].is_pooled
        cells = (layer + mark, str(update.task), *map(percent_of, values))
        table.add_row(names.name(run.path), *cells)
    pooled = _POOLED if any(run.meter.is_pooled for run in shown) else ""
    return titled(names.title(_TITLE), table, _SUMS, pooled)


def layers_table(meter: ForgettingMeter, width: int) -> Table | None:
    """Return a row per layer and a column per update, as many as fit ``width`` columns.

    Nothing if no update is known.
    """
    if not meter.updates:
        return None
    layers = list(meter.sums)
    wide = min(_LAYER, max(len("update of task"), *(len(name) + 1 for name in layers)))
    totals = ["sum", "root", *["used"] * (meter.share is not None)]
    fitting = max(1, (width - wide - _CELL * len(totals)) // _CELL)
    shown = meter.updates[-fitting:]
    table = plain_table("update of task", *(str(update.task) for update in shown), *totals)
    sums, roots = meter.sums, meter.roots
    for layer in layers:
        own = [update.layers.get(layer) for update in shown]
        shares = [u.layers[layer].share for u in meter.updates if layer in u.layers]
        used = max((share for share in shares if share is not None), default=None)
        is_pooled = any(change is not None and change.is_pooled for change in own)
        values = [None if change is None else change.rho for change in own]
        values += [sums[layer], roots[layer], used][: len(totals)]
        table.add_row(layer + "~" * is_pooled, *map(percent_of, values))
    left_out = len(meter.updates) - len(shown)
    return titled(
        _TITLE,
        table,
        "sum, root: sum and root sum of squares over all updates",
        "used: largest share of its budget" if "used" in totals else "",
        _POOLED if meter.is_pooled else "",
        f"{counted(left_out, 'earlier update')} left out for width, --json has all of them"
        if left_out
        else "",
        _missing(meter),
    )


def _missing(meter: ForgettingMeter) -> str:
    if not meter.missing:
        return ""
    tasks = ", ".join(map(str, meter.missing))
    return f"not known of the update of task {tasks}: no record has it, files are not kept"


def _percent(value: float) -> str:
    return f"{percent_of(value)} %"


def _most(values: Mapping[str, float]) -> str:
    """Return the largest value and its layer: ``31.20 % fc1``."""
    layer = max(values, key=values.__getitem__)
    return f"{_percent(values[layer])} {layer}"
