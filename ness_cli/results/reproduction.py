"""Compare runs with a published result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ness_cli.results.summary import Group, Spread
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.settings.reproduction import About
from ness_cli.words import fixed

PASS, SHORT, BETTER, CONSISTENT = "pass", "falls short", "better", "consistent"
NOT_COMPARABLE, NOT_COMPARED, INCOMPLETE = "not comparable", "not compared", "incomplete"
_SINGLE_SEED_POINTS = 3.0


@dataclass(frozen=True)
class Comparison:
    """One metric beside its published value, all in percent.

    Attributes:
        metric: ``ACC`` or ``BWT``.
        measured: Mean and deviation over our seeds.
        published: The published mean.
        published_std: Its deviation over seeds, where known.
        allowed: Difference that still passes.
        verdict: ``pass``, ``better`` (above the published value by more than is allowed), ``falls
            short`` (below it by more), ``consistent``, ``not comparable`` or ``incomplete``.
    """

    metric: str
    measured: Spread
    published: float
    published_std: float | None
    allowed: float
    verdict: str

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        return None if self.measured.mean is None else self.measured.mean - self.published


@dataclass(frozen=True)
class Reproduction:
    """What came of reproducing a preset.

    Attributes:
        preset: Its name.
        seeds: Seeds that were run to the end.
        comparisons: A line for ACC, and for BWT if one was published.
        note: Why nothing can be compared, or what to bear in mind.
    """

    preset: str
    seeds: tuple[int, ...]
    comparisons: tuple[Comparison, ...]
    note: str = ""

    @property
    def verdict(self) -> str:
        """The worst verdict of all metrics."""
        order = (INCOMPLETE, SHORT, NOT_COMPARABLE, CONSISTENT, PASS, BETTER)
        found = [comparison.verdict for comparison in self.comparisons]
        return min(found, key=order.index) if found else NOT_COMPARED

    @property
    def falls_short(self) -> bool:
        """Whether a metric is below its published value by more than it may be."""
        return self.verdict == SHORT

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "schema": "ness.reproduction/1",
            "preset": self.preset,
            "seeds": list(self.seeds),
            "verdict": self.verdict,
            "note": self.note or None,
            "comparisons": [
                {
                    "metric": each.metric,
                    "measured": each.measured.mean,
                    "measured_std": each.measured.std,
                    "published": each.published,
                    "published_std": each.published_std,
                    "difference": each.difference,
                    "allowed": each.allowed,
                    "verdict": each.verdict,
                }
                for each in self.comparisons
            ],
        }

    def table(self) -> Table:
        """Return the table of verdicts."""
        table = plain_table(
            *("metric", "verdict", "measured", "published", "difference", "allowed"), left=2
        )
        for each in self.comparisons:
            difference = "-" if each.difference is None else fixed(each.difference, signed=True)
            published = str(Spread(each.published, each.published_std))
            row = (str(each.measured), published, difference, f"{each.allowed:.2f}")
            table.add_row(each.metric, each.verdict, *row)
        if not self.comparisons:
            table = plain_table()
        seeds = ", ".join(map(str, self.seeds)) or "none to the end"
        return titled(f"{self.preset}: {self.verdict} (seeds: {seeds})", table, self.note)


def compare(group: Group, about: About, *, num_tasks: int) -> Reproduction:
    """Compare the seeds of an experiment with what its preset says was published.

    Several seeds pass when the difference is at most the preset's tolerance or twice the standard
    error of the difference of the two means, whichever is more. A single seed is ``consistent``
    within three points: it has no spread to judge by. Of ACC and of BWT more is better, so what
    lies above the published value by more than that is ``better`` and what lies below falls short.

    Args:
        group: Runs that differ in their seed only.
        about: What the preset says about itself.
        num_tasks: Tasks of the whole stream; runs that stopped before are incomplete.
    """
    done = tuple(run for run in group.independent if run.task_incremental.last == num_tasks)
    seeds = tuple(sorted(run.record["seed"] for run in done))
    preset, published = group.runs[0].record["preset"], about.published
    if published is None:
        return Reproduction(preset, seeds, (), "the preset names no published result")
    complete = Group(done) if done else None
    wanted = [("ACC", "acc", published.acc, published.acc_std, about.acc_tolerance)]
    if published.bwt is not None:
        wanted.append(("BWT", "bwt", published.bwt, published.bwt_std, about.bwt_tolerance))
    comparisons = []
    for metric, key, value, std, tolerance in wanted:
        measured = complete.spread(key) if complete else Spread(None, None)
        allowed = _allowed(measured, len(seeds), std, published.seeds, tolerance)
        verdict = (
            NOT_COMPARABLE
            if published.not_comparable
            else _verdict(measured, value, allowed, len(seeds))
        )
        comparisons.append(Comparison(metric, measured, value, std, allowed, verdict))
    note = f"published: {published.source}"
    if published.not_comparable:
        note += f"; not comparable: {published.not_comparable}"
    return Reproduction(preset, seeds, tuple(comparisons), note)


def _allowed(
    measured: Spread, num_seeds: int, std: float | None, published_seeds: int, tolerance: float
) -> float:
    if num_seeds < 2:
        return max(tolerance, _SINGLE_SEED_POINTS)
    mine = (measured.std or 0.0) ** 2 / num_seeds
    theirs = (std or 0.0) ** 2 / published_seeds
    return max(tolerance, 2 * math.sqrt(mine + theirs))


def _verdict(measured: Spread, value: float, allowed: float, num_seeds: int) -> str:
    if measured.mean is None:
        return INCOMPLETE
    if abs(measured.mean - value) > allowed:
        return BETTER if measured.mean > value else SHORT
    return PASS if num_seeds > 1 else CONSISTENT
