"""Differences between two experiments, seed by seed: what a seed decides alike in both drops out.

Of n common seeds d_s is the difference of a metric of seed s. The interval of their mean is that of
Student's t distribution: mean(d) ± t(0.975, n - 1) std(d) / sqrt(n), std with n - 1.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.results.read_run import RunResult
from ness_cli.results.run_metrics import stream_of
from ness_cli.results.summary import METRICS, Group
from ness_cli.results.table import Cell, Table, plain_table, titled
from ness_cli.words import fixed


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, points of percent.

    Attributes:
        mean: Of the differences; ``None`` if one is not known.
        half_width: Of its 95 % interval; ``None`` without two seeds.
    """

    mean: float | None
    half_width: float | None

    @classmethod
    def of(cls, differences: Sequence[float | None]) -> Difference:
        """Return the mean of differences and how sure it is."""
        known = [value for value in differences if value is not None]
        if not known or len(known) < len(differences):
            return cls(None, None)
        mean, count = statistics.fmean(known), len(known)
        if count < 2:
            return cls(mean, None)
        return cls(mean, _quantile(count - 1) * statistics.stdev(known) / math.sqrt(count))

    def as_json(self) -> dict[str, float | None]:
        """Return mean and interval, ``None`` where there is none."""
        if self.mean is None or self.half_width is None:
            return {"mean": self.mean, "low": None, "high": None}
        low, high = self.mean - self.half_width, self.mean + self.half_width
        return {"mean": self.mean, "low": low, "high": high}

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        half = "" if self.half_width is None else f" ± {self.half_width:.2f}"
        return fixed(self.mean, signed=True) + half


@dataclass(frozen=True)
class PairedComparison:
    """An experiment beside the one that it is compared with.

    Attributes:
        name: Its name.
        seeds: The seeds that both have, come equally far.
        differences: By metric, this one minus the other.
        note: Why there are none; empty otherwise.
    """

    name: str
    seeds: tuple[int, ...]
    differences: dict[str, Difference]
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        found = {metric: each.as_json() for metric, each in self.differences.items()}
        own = {"name": self.name, "seeds": list(self.seeds), "note": self.note or None}
        return {**own, "differences": found}


def compared(group: Group, baseline: Group, name: str) -> PairedComparison:
    """Compare two experiments on the seeds that they have in common.

    Only runs of one seed that were evaluated after the same task count, of them those that have
    come furthest. With other images, or other tasks, nothing is compared.
    """
    if _stream(group) != _stream(baseline):
        return PairedComparison(name, (), {}, "other images or tasks")
    others = {run.record["seed"]: run for run in baseline.independent}
    pairs = [
        (run, others[run.record["seed"]])
        for run in group.independent
        if run.record["seed"] in others and _last(run) == _last(others[run.record["seed"]]) > 0
    ]
    furthest = max((_last(run) for run, _ in pairs), default=0)
    pairs = [(run, other) for run, other in pairs if _last(run) == furthest]
    if not pairs:
        return PairedComparison(name, (), {}, "no seed in common that has come as far")
    summaries = [(a.task_incremental.summary(), b.task_incremental.summary()) for a, b in pairs]
    found = {
        metric: Difference.of([_minus(a[metric], b[metric]) for a, b in summaries])
        for metric in METRICS
    }
    return PairedComparison(name, tuple(run.record["seed"] for run, _ in pairs), found)


def paired_table(found: Sequence[PairedComparison], names: Sequence[str], title: str) -> Table:
    """Return a row per experiment, under its name."""
    table = plain_table("experiment", "seeds", "ACC", "BWT", "forgetting", "learned")
    for each, name in zip(found, names, strict=True):
        differences = [each.differences.get(metric, Difference(None, None)) for metric in METRICS]
        cells = [Cell(str(own), own.mean) for own in differences]
        table.add_row(name, str(len(each.seeds)) if each.seeds else "none", *cells)
    notes = [f"{n}: {each.note}" for each, n in zip(found, names, strict=True) if each.note]
    if any(len(each.seeds) > 1 for each in found):
        notes.insert(0, "mean difference over common seeds ± half of its 95 % t interval")
    if any(len(each.seeds) == 1 for each in found):
        notes.append("of a single common seed there is no interval")
    return titled(title, table, *notes)


def _quantile(freedom: int) -> float:
    """Return the 97.5 % point of Student's t distribution."""
    from scipy.special import stdtrit  # not at the top: importing it takes longer than a report

    return float(stdtrit(freedom, 0.975))


def _minus(mine: float | None, other: float | None) -> float | None:
    return None if mine is None or other is None else mine - other


def _last(run: RunResult) -> int:
    return run.task_incremental.last


def _stream(group: Group) -> str:
    return json.dumps(stream_of(group.runs[0]), sort_keys=True)
