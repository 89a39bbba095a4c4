"""In which settings two experiments differ, and what that did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.results.accuracy_matrix import AccuracyMatrix, total
from ness_cli.results.number_formats import human_bytes, human_seconds, percent
from ness_cli.results.paired import Difference
from ness_cli.results.read_run import RunResult
from ness_cli.results.run_metrics import stream_of
from ness_cli.results.summary import Group, Spread
from ness_cli.results.table import Paragraph, Table, plain_table, titled
from ness_cli.settings.identity import completed
from ness_cli.settings.yaml_files import typed
from ness_cli.words import counted, fixed

_ACCURACIES = {
    "acc": "ACC, %",
    "bwt": "BWT, points",
    "forgetting": "forgetting, points",
    "learning_accuracy": "learned, %",
}
_ABSENT = "-"


@dataclass(frozen=True)
class Line:
    """A metric of both.

    Attributes:
        name: Its key in documents.
        head: What a table calls it.
        a: Over the seeds of the first.
        b: Over those of the second.
        difference: The second minus the first: over common seeds, or of the means without any.
        shown: A value in words.
    """

    name: str
    head: str
    a: Spread
    b: Spread
    difference: Difference
    shown: Callable[[float], str]


@dataclass(frozen=True)
class RunDiff:
    """What two experiments differ in.

    Attributes:
        names: What was named.
        settings: By key what both have; ``None`` where it has no such setting.
        lines: The metrics that both have.
        seeds: Seeds that both have, by which differences are paired.
        notes: What must be said besides.
    """

    names: tuple[str, str]
    settings: dict[str, tuple[str | None, str | None]]
    lines: tuple[Line, ...]
    seeds: tuple[int, ...]
    notes: tuple[str, ...]

    def parts(self) -> list[Table | Paragraph]:
        """Return a table of settings, and one of metrics."""
        settings = plain_table("setting", "A", "B", left=3)
        for key, values in self.settings.items():
            settings.add_row(key, *(_ABSENT if value is None else value for value in values))
        title = "Settings that differ" if self.settings else "No setting differs"
        metrics = plain_table("metric", "A", "B", "B - A")
        for line in self.lines:
            cells = (_spread(spread, line.shown) for spread in (line.a, line.b))
            metrics.add_row(line.head, *cells, _difference(line))
        return [
            Paragraph(f"A: {self.names[0]}"),
            Paragraph(f"B: {self.names[1]}"),
            titled(title, settings if self.settings else plain_table()),
            titled("What came of it", metrics, *self.notes),
        ]

    def document(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "schema": "ness.diff/1",
            "a": self.names[0],
            "b": self.names[1],
            "settings": {key: {"a": a, "b": b} for key, (a, b) in self.settings.items()},
            "metrics": {
                line.name: {
                    "a": {"mean": line.a.mean, "std": line.a.std},
                    "b": {"mean": line.b.mean, "std": line.b.std},
                    "difference": line.difference.as_json(),
                }
                for line in self.lines
            },
            "paired_seeds": list(self.seeds),
            "notes": list(self.notes),
        }


def compare_groups(a: Group, b: Group, names: tuple[str, str]) -> RunDiff:
    """Compare two experiments after the last task that all their runs have been evaluated after.

    Args:
        a: Runs that differ in their seed only.
        b: Likewise.
        names: What they are called.
    """
    runs = (a.independent, b.independent)
    last = min(run.task_incremental.last for run in (*runs[0], *runs[1]))
    seeds = [{run.record["seed"] for run in each} for each in runs]
    common = tuple(sorted(seeds[0] & seeds[1]))
    lines = [_line(*about, runs, common) for about in _measures(last)]
    shown = tuple(line for line in lines if None not in (line.a.mean, line.b.mean))
    return RunDiff(names, _settings(a, b, seeds), shown, common, tuple(_notes(runs, common, last)))


def _measures(last: int) -> list[tuple[str, str, Callable[[RunResult], float | None], Any]]:
    """Return what is measured of runs after a task: key, head, measure, value in words."""

    def accuracy(name: str) -> Callable[[RunResult], float | None]:
        return lambda run: AccuracyMatrix(run.task_incremental.rows[:last]).summary()[name]

    def seconds(step: str) -> Callable[[RunResult], float | None]:
        return lambda run: total(run.seconds(step)[:last])

    def kept(name: str) -> Callable[[RunResult], float | None]:
        return lambda run: run.records("build")[last - 1].get("kept", {}).get(name)

    def remembered(run: RunResult) -> float | None:
        found: float | None = run.records("build")[last - 1].get("memory_bytes")
        return found

    return [
        *((name, head, accuracy(name), percent) for name, head in _ACCURACIES.items()),
        ("model_bytes", "model", kept("model_bytes"), _bytes),
        ("memory_bytes", "remembered", remembered, _bytes),
        ("bytes_written", "on disk", lambda run: total(run.bytes_written()[:last]), _bytes),
        ("train_seconds", "training", seconds("train"), human_seconds),
        ("build_seconds", "building", seconds("build"), human_seconds),
    ]


def _line(
    name: str,
    head: str,
    measure: Callable[[RunResult], float | None],
    shown: Callable[[float], str],
    runs: tuple[Sequence[RunResult], Sequence[RunResult]],
    common: Sequence[int],
) -> Line:
    by_seed = [{run.record["seed"]: measure(run) for run in each} for each in runs]
    a, b = (Spread.of(list(each.values())) for each in by_seed)
    pairs = [(by_seed[0][seed], by_seed[1][seed]) for seed in common] or [(a.mean, b.mean)]
    gaps = [None if x is None or y is None else y - x for x, y in pairs]
    return Line(name, head, a, b, Difference.of(gaps), shown)


def _settings(
    a: Group, b: Group, seeds: Sequence[set[int]]
) -> dict[str, tuple[str | None, str | None]]:
    """Return the settings that decide numbers and differ.

    Options that only one of the two has, as those of its method, count if they were typed.
    """
    mine, other = completed(a.identity), completed(b.identity)
    origins = [group.runs[0].record.get("origins", {}) for group in (a, b)]
    found: dict[str, tuple[str | None, str | None]] = {}
    for key in sorted({*a.identity, *b.identity} - {"seed"}):
        values = tuple(typed(each[key]) if key in each else None for each in (mine, other))
        is_in_both = key in mine and key in other
        was_given = any(each.get(key, "default") != "default" for each in origins)
        if values[0] != values[1] and (is_in_both or was_given):
            found[key] = (values[0], values[1])
    if seeds[0] != seeds[1]:
        words = [", ".join(map(str, sorted(each))) for each in seeds]
        found["seed"] = (words[0], words[1])
    return found


def _notes(
    runs: tuple[Sequence[RunResult], Sequence[RunResult]],
    common: Sequence[int],
    last: int,
) -> list[str]:
    found = []
    if common:
        seeds = f"seed{'s' * (len(common) > 1)} {', '.join(map(str, common))}"
        found.append(f"B - A: of {seeds}")
    else:
        found.append("B - A: of means, as they have no seed in common")
    if len(common) > 1:
        found.append("± of B - A: half of its 95 % t interval; of A and B: deviation over seeds")
    if any(run.task_incremental.last != last for each in runs for run in each):
        found.append(
            f"after {counted(last, 'task')}, the most that all runs have been evaluated on"
        )
    if stream_of(runs[0][0]) != stream_of(runs[1][0]):
        found.append("they learn other tasks or images: accuracies are not comparable")
    for name, each in zip("AB", runs, strict=True):
        found += [f"{name} is a fork: it shares a training"] * any(run.is_fork for run in each)
    return found


def _bytes(value: float) -> str:
    return human_bytes(round(value))


def _spread(spread: Spread, shown: Callable[[float], str]) -> str:
    if spread.mean is None:
        return _ABSENT
    return shown(spread.mean) + ("" if spread.std is None else f" ± {shown(spread.std)}")


def _difference(line: Line) -> str:
    own = line.difference
    if own.mean is None:
        return _ABSENT
    if line.shown is percent:
        return str(own)
    sign = "" if fixed(own.mean) == "0.00" else "+" if own.mean > 0 else "-"
    half = "" if own.half_width is None else f" ± {line.shown(own.half_width)}"
    return f"{sign}{line.shown(abs(own.mean))}{half}"
