"""What ``ness inspect`` found, as tables and as a document. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.results.forgetting_meter import ForgettingMeter
from ness_cli.results.forgetting_meter_tables import layers_table
from ness_cli.results.room import Room
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.words import counted

_MOST_ROWS = 60
_BINS = 16
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        path: The run folder.
        last: The last task that is trained.
        method: Name of its method.
        rooms: Room per task and layer.
        spectra: Task and layer to ``sigma`` (ascending), ``tau`` and ``rank``.
        updates: A row per update, layer and earlier task: the bound and the change measured.
        promised: ``max_output_change`` of the run, if it has one.
        drift: A row per earlier task.
        meter: How far updates moved outputs on earlier inputs, from the files of the run.
        left_out: A sentence on what could not be measured, and why; empty if nothing.
    """

    path: str
    last: int
    method: str
    rooms: tuple[Room, ...]
    spectra: Mapping[int, Mapping[str, Mapping[str, Any]]]
    updates: tuple[Mapping[str, Any], ...]
    promised: float | None
    drift: tuple[Mapping[str, Any], ...]
    meter: ForgettingMeter
    left_out: str = ""

    @property
    def violations(self) -> list[str]:
        """A line for every layer and update that breaks its bound, or the run's promise."""
        found = []
        for row in self.updates:
            where = f"{row['layer']}, update of task {row['task']} on inputs of task"
            if row["violations"]:
                found.append(
                    f"{where} {row['on_task']}: {row['violations']} of {row['rows']} rows change by"
                    f" more than tau ||V|| = {row['bound']:.4g}, by {row['excess']:.3g} at most"
                )
            limit = math.sqrt(self.promised) if self.promised is not None else math.inf
            if row["bound"] > limit * (1 + 1e-6):
                found.append(
                    f"{where} {row['on_task']}: tau ||V|| = {row['bound']:.4g} > {limit:.4g}"
                )
        return found

    def document(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "schema": "ness.inspection/1",
            "run": self.path,
            "method": self.method,
            "room": [room.as_json() for room in self.rooms],
            "spectra": {str(task): dict(layers) for task, layers in self.spectra.items()},
            "updates": [dict(row) for row in self.updates],
            "max_output_change": self.promised,
            "drift": [dict(row) for row in self.drift],
            "forgetting_meter": self.meter.document(),
            "left_out": self.left_out or None,
            "violations": self.violations,
        }

    def tables(self, width: int) -> list[Table]:
        """Return the tables, for lines of ``width`` characters."""
        meter = layers_table(self.meter, width)
        found = [self._room_table(), meter, self._update_table(), self._drift_table()]
        return [table for table in found if table is not None]

    def _room_table(self) -> Table | None:
        if not self.rooms:
            return None
        last = max(room.task for room in self.rooms)
        spectra = self.spectra.get(last, {})
        tau = "tau" if spectra else "threshold"
        columns = ("layer", "rank", "d", tau, "energy", "closed", "left")
        table = plain_table(*columns, *(["spectrum"] if spectra else []))
        for room in (room for room in self.rooms if room.task == last):
            closed, left = room.closed_per_task, room.tasks_left
            table.add_row(
                room.layer,
                str(room.row["rank"]),
                str(room.row["d"]),
                f"{room.row['threshold']:.4g}",
                f"{room.row['energy_percent']:.3g} %",
                "-" if closed is None else f"{closed:.1f}",
                "-" if closed is None else ("no end" if left is None else f"{left:.0f}"),
                *([spectrum_picture(**spectra[room.layer])] if room.layer in spectra else []),
            )
        notes = ["closed: directions a task has closed lately; left: tasks until none is open then"]
        if spectra:
            notes.append(
                "spectrum: log singular values from small to large, those left of | below tau"
            )
        return titled(f"{self.path}: {self.method}, room after task {last}", table, *notes)

    def _update_table(self) -> Table | None:
        if not self.updates:
            return None
        table = plain_table(
            *("layer", "task", "||V||", "tau ||V||", "largest", "rms", "of output, rms", "max"),
        )
        rows = _worst(self.updates, ("layer", "task"))
        kept = rows if len(rows) <= _MOST_ROWS else _worst(self.updates, ("layer",))
        for row in kept:
            table.add_row(
                row["layer"],
                str(row["task"]),
                f"{row['norm']:.3g}",
                f"{row['bound']:.3g}",
                f"{row['largest']:.3g}",
                f"{row['rms']:.3g}",
                f"{100 * row['rms_relative']:.2f} %",
                f"{100 * row['largest_relative']:.1f} %",
            )
        promise = (
            "no clip, so no promise: the bound holds, but nothing keeps ||V|| small"
            if self.promised is None
            else f"promised: no change above {math.sqrt(self.promised):.4g}"
        )
        count = len(self.violations)
        verdict = (
            f"{counted(count, 'violation')} of the bound" if count else "no violation of the bound"
        )
        inputs = sum(row["rows"] for row in self.updates)
        return titled(
            "What later tasks changed in a layer's outputs on earlier inputs",
            table,
            f"{verdict} in {counted(inputs, 'check')} of input rows; shown: the task changed most",
            promise,
        )

    def _drift_table(self) -> Table | None:
        if not self.drift:
            return None
        shown = {row["task"] for row in self.drift}
        left_out = ", ".join(str(task) for task in range(1, self.last) if task not in shown)
        table = plain_table("task", "logits moved", "predictions changed", "layer moved most", "by")
        table.columns[3].is_text = True
        for row in self.drift:
            layer = max(row["layers"], key=row["layers"].__getitem__)
            table.add_row(
                str(row["task"]),
                f"{100 * row['logits']:.1f} %",
                f"{row['predictions_changed_percent']:.1f} %",
                layer,
                f"{100 * row['layers'][layer]:.1f} %",
            )
        return titled(
            "Drift of earlier tasks in the newest model, through the whole network",
            table,
            "relative to what the task's own model computes; no bound on single layers covers this",
            f"left out, their models are not kept: {left_out}" if left_out else "",
        )


def spectrum_picture(sigma: Sequence[float], tau: float, rank: int) -> str:
    """Return a spectrum as one line of bars, ascending, with ``|`` where the threshold lies.

    Args:
        sigma: Singular values, ascending.
        tau: The threshold; bars to the left of ``|`` are not above it.
        rank: Open directions; with bounded scaling more than lie below the threshold.
    """
    dim = len(sigma)
    bins = min(_BINS, dim)
    largest = sigma[-1] if dim else 0.0
    bars = ""
    for index in range(bins):
        value = sigma[(index + 1) * dim // bins - 1]
        decades = math.log10(value / largest) if value > 0 else -math.inf
        bars += _BARS[7 + round(2 * decades)] if decades > -3.5 else _BARS[0]
    below = sum(value <= tau for value in sigma)
    cut = round(below * bins / dim) if dim else 0
    return f"{bars[:cut]}|{bars[cut:]}"


def _worst(rows: Sequence[Mapping[str, Any]], keys: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """Return, of the rows that agree in ``keys``, the one with the largest change."""
    found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        if key not in found or row["largest"] > found[key]["largest"]:
            found[key] = row
    return list(found.values())
