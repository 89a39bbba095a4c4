"""Runs that differ only in their seed, taken together."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.extensions import read_extensions
from ness_cli.results.read_run import RunResult
from ness_cli.settings.identity import completed, method_label
from ness_cli.settings.yaml_files import typed
from ness_cli.words import fixed

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
        return fixed(self.mean) + ("" if self.std is None else f" ± {self.std:.2f}")


@dataclass(frozen=True)
class Repeat:
    """A run that counts for nothing because another one has its settings and its seed.

    Attributes:
        run: The run that is left out.
        of: The run that counts.
    """

    run: RunResult
    of: RunResult

    @property
    def is_equal(self) -> bool:
        """Whether all files and accuracies that both have are equal, as in a copy."""
        mine, other = self.run.results, self.of.results
        return all(mine[name] == other[name] for name in mine.keys() & other.keys())

    def __str__(self) -> str:
        who = f"{self.of.path} and {self.run.path} are both seed {self.of.record['seed']}"
        if self.is_equal:
            return f"{who} with equal settings and results, as copies are: counted once"
        if "forked" in self.run.record or "forked" in self.of.record:
            return (
                f"{who} with equal settings, and a fork shares its first training: no independent "
                f"seeds, so only {self.of.path} is counted"
            )
        return (
            f"{who} with equal settings, but differ in their results: no independent seeds, "
            f"so only {self.of.path} is counted"
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"run": str(self.run.path), "of": str(self.of.path), "equal": self.is_equal}


@dataclass(frozen=True)
class Group:
    """Runs of one experiment under several seeds."""

    runs: tuple[RunResult, ...]

    @property
    def independent(self) -> list[RunResult]:
        """One run per seed: a copy is no second sample, and neither is a fork.

        The one that has come furthest, of several of them one that is no fork.
        """
        found: dict[int, RunResult] = {}
        for run in self.runs:
            other = found.setdefault(run.record["seed"], run)
            if _rank(run) > _rank(other):
                found[run.record["seed"]] = run
        return list(found.values())

    @property
    def repeats(self) -> list[Repeat]:
        """The other runs, each with the one that counts in its place."""
        counted = {run.record["seed"]: run for run in self.independent}
        pairs = [(run, counted[run.record["seed"]]) for run in self.runs]
        return [Repeat(run, of) for run, of in pairs if run is not of]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs that count."""
        return [run.record["seed"] for run in self.furthest]

    @property
    def seeds_behind(self) -> list[int]:
        """Seeds of the runs that are left out because others have come further."""
        last = self._last
        return [run.record["seed"] for run in self.independent if run.task_incremental.last < last]

    @property
    def name(self) -> str:
        """Preset and method."""
        method = method_label(self.runs[0].record["method"], self.identity)
        return f"{self.preset}, {method}"

    @property
    def preset(self) -> str:
        """Name of the preset."""
        return str(self.runs[0].record["preset"])

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that decide the numbers, flat, of the first run."""
        return dict(self.runs[0].record["identity"])

    @property
    def furthest(self) -> list[RunResult]:
        """The runs that have come furthest: after other tasks accuracies mean something else."""
        last = self._last
        return [run for run in self.independent if run.task_incremental.last == last]

    @property
    def tasks_done(self) -> int:
        """The last task that the runs which have come furthest were evaluated after."""
        return self._last

    @property
    def _last(self) -> int:
        return max(run.task_incremental.last for run in self.runs)

    def spread(self, metric: str) -> Spread:
        """Return the spread of a metric over the runs that have come furthest."""
        return Spread.of([run.task_incremental.summary()[metric] for run in self.furthest])

    def as_json(self) -> dict[str, Any]:
        """Return the group as plain values."""
        record = self.runs[0].record
        spreads = {metric: self.spread(metric) for metric in METRICS}
        return {
            "preset": record["preset"],
            "method": record["method"],
            "tasks_done": self.tasks_done,
            "seeds": self.seeds,
            "seeds_behind": self.seeds_behind,
            "repeats": [repeat.as_json() for repeat in self.repeats],
            **{name: {"mean": s.mean, "std": s.std} for name, s in spreads.items()},
        }


def _rank(run: RunResult) -> tuple[int, bool]:
    return run.task_incremental.last, "forked" not in run.record


def groups(runs: Sequence[RunResult]) -> list[Group]:
    """Return runs grouped by everything that identifies them but the seed."""
    found: dict[str, list[RunResult]] = {}
    are_alike = len({frozenset(run.record["identity"]) for run in runs}) == 1
    for run in runs:
        # Settings may have been added between two runs; looking up their defaults takes a moment.
        own = run.record["identity"]
        identity = own if are_alike else completed(own)
        identity = {key: value for key, value in identity.items() if key != "seed"}
        # The files and not the stream: with data.split_seed=run every seed has a stream of its own.
        content = run.record.get("content", run.record["stream_key"])
        added = [
            [each.settings, each.stream["content"], each.num_tasks]
            for each in read_extensions(run.record)
        ]
        key = json.dumps([identity, content, *added], sort_keys=True)
        found.setdefault(key, []).append(run)
    return [Group(tuple(members)) for members in found.values()]


def distinct_names(found: Sequence[Group]) -> list[str]:
    """Return a name for every group; those of equal names say in which settings they differ."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for group in found:
        alike.setdefault(group.name, []).append(group.identity)
    differing = {name: _differing(identities) for name, identities in alike.items()}
    names = []
    for group in found:
        own = group.identity
        settings = ", ".join(
            f"{key.rpartition('.')[2]}={typed(own.get(key))}" for key in differing[group.name]
        )
        names.append(f"{group.name} ({settings})" if settings else group.name)
    return names


def _differing(identities: Sequence[dict[str, Any]]) -> list[str]:
    """Return the settings but the seed that not all have alike, sorted."""
    keys = {key for identity in identities for key in identity} - {"seed"}
    first = identities[0]
    return sorted(
        key for key in keys if any(other.get(key) != first.get(key) for other in identities)
    )


def short_names(found: Sequence[Group]) -> tuple[list[str], str]:
    """Return distinct names without the preset that all groups have, and that for a title."""
    names, presets = distinct_names(found), {group.preset for group in found}
    if len(presets) > 1 or len(found) < 2:
        return names, ""
    preset = presets.pop()
    return [name.removeprefix(f"{preset}, ") for name in names], f"; preset {preset}"
