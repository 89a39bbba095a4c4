"""Runs that differ only in their seed, taken together."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.results.read_run import RunResult
from ness_cli.settings.identity import completed

METRICS = ("acc", "bwt", "forgetting", "learning_accuracy")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) over runs; no deviation for a single one."""

    mean: float | None
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread:
        """Return the spread of values, of nothing if one is missing."""
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return cls(None, None)
        std = statistics.stdev(known) if len(known) > 1 else None
        return cls(statistics.fmean(known), std)

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        return f"{self.mean:.2f}" + ("" if self.std is None else f" ± {self.std:.2f}")


@dataclass(frozen=True)
class Group:
    """Runs of one experiment under several seeds."""

    runs: tuple[RunResult, ...]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs that count."""
        return [run.about["seed"] for run in self.furthest]

    @property
    def seeds_behind(self) -> list[int]:
        """Seeds of the runs that are left out because others have come further."""
        return [run.about["seed"] for run in self.runs if run not in self.furthest]

    @property
    def name(self) -> str:
        """Preset and method."""
        about = self.runs[0].about
        return f"{about['preset']}, {about['method']}"

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that decide the numbers, flat, of the first run."""
        return dict(self.runs[0].about["identity"])

    @property
    def furthest(self) -> list[RunResult]:
        """The runs that have come furthest: after other tasks accuracies mean something else."""
        last = max(run.by_task.last for run in self.runs)
        return [run for run in self.runs if run.by_task.last == last]

    def spread(self, metric: str) -> Spread:
        """Return the spread of a metric over the runs that have come furthest."""
        return Spread.of([run.by_task.summary()[metric] for run in self.furthest])

    def as_json(self) -> dict[str, Any]:
        """Return the group as plain values."""
        about = self.runs[0].about
        spreads = {metric: self.spread(metric) for metric in METRICS}
        return {
            "preset": about["preset"],
            "method": about["method"],
            "seeds": self.seeds,
            "seeds_behind": self.seeds_behind,
            **{name: {"mean": s.mean, "std": s.std} for name, s in spreads.items()},
        }


def groups(runs: Sequence[RunResult]) -> list[Group]:
    """Return runs grouped by everything that identifies them but the seed."""
    found: dict[str, list[RunResult]] = {}
    are_alike = len({frozenset(run.about["identity"]) for run in runs}) == 1
    for run in runs:
        # Settings may have been added between two runs; looking up their defaults takes a moment.
        own = run.about["identity"]
        identity = own if are_alike else completed(own)
        identity = {key: value for key, value in identity.items() if key != "seed"}
        # The files and not the stream: with data.split_seed=run every seed has a stream of its own.
        content = run.about.get("content", run.about["stream_key"])
        key = json.dumps([identity, content], sort_keys=True)
        found.setdefault(key, []).append(run)
    return [Group(tuple(members)) for members in found.values()]


def distinct_names(found: Sequence[Group]) -> list[str]:
    """Return a name for every group; those of equal names say in which settings they differ."""
    names = []
    for group in found:
        alike = [other.identity for other in found if other.name == group.name]
        keys = sorted({*(key for identity in alike for key in identity)})
        differing = [
            key
            for key in keys
            if any(other.get(key) != group.identity.get(key) for other in alike) and key != "seed"
        ]
        settings = ", ".join(
            f"{key.rpartition('.')[2]}={group.identity.get(key)}" for key in differing
        )
        names.append(f"{group.name} ({settings})" if settings else group.name)
    return names
