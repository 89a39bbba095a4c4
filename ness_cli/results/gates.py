"""Limits that results must keep, for CI: judged on the mean of every group over the tasks done.

A value that is missing, or is no number, keeps no limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ness_cli.errors import DamagedError, SettingsError
from ness_cli.files import read_json
from ness_cli.results.read_run import RunResult
from ness_cli.results.summary import Group, distinct_names
from ness_cli.words import counted, fixed

_SLACK = 1e-9  # percent: the rounding of a mean is no failure
_LABELS = {"acc": "ACC", "bwt": "BWT", "forgetting": "forgetting"}
_SIGNS = {"acc": 1, "bwt": 1, "forgetting": -1}  # -1: less is better
_SAVE = "save it anew: ness report RUN ... --json > FILE"


@dataclass(frozen=True)
class Limits:
    """What results must keep; percent and points.

    Attributes:
        min_acc: Least ACC.
        min_bwt: Least BWT.
        max_forgetting: Most forgetting.
        baseline: A report saved before as JSON, whose groups these must not fall short of.
        tolerance: Points by which they may.
        require_complete: Whether every run must be finished.

    Raises:
        SettingsError: If a limit cannot be meant; names the option.
    """

    min_acc: float | None = None
    min_bwt: float | None = None
    max_forgetting: float | None = None
    baseline: Path | None = None
    tolerance: float | None = None
    require_complete: bool = False

    def __post_init__(self) -> None:
        for option, value, _ in self.fixed():
            if not -100 <= value <= 100:
                raise SettingsError(f"{option}: {value} is no percentage between -100 and 100")
        if self.min_acc is not None and 0 < self.min_acc <= 1:
            raise SettingsError(
                f"--min-acc: {self.min_acc} would be less than one percent",
                f"accuracies are percent: --min-acc {fixed(100 * self.min_acc, 0)}",
            )
        if self.tolerance is not None and self.baseline is None:
            raise SettingsError("--tolerance: there is no --baseline that it could belong to")
        if self.tolerance is not None and not 0 <= self.tolerance <= 100:
            raise SettingsError(f"--tolerance: {self.tolerance} is not between 0 and 100 points")

    def __bool__(self) -> bool:
        return bool(self.fixed()) or self.baseline is not None or self.require_complete

    def fixed(self) -> list[tuple[str, float, str]]:
        """Return option, value and metric of the limits that are numbers."""
        named = (
            ("--min-acc", self.min_acc, "acc"),
            ("--min-bwt", self.min_bwt, "bwt"),
            ("--max-forgetting", self.max_forgetting, "forgetting"),
        )
        return [(option, value, metric) for option, value, metric in named if value is not None]


@dataclass(frozen=True)
class Verdict:
    """Whether a limit is kept.

    Attributes:
        subject: Group or run that is judged.
        gate: The limit, as it is typed.
        passed: Whether it is kept.
        message: The value, the limit and the amount between them.
        metric: What is judged: ``ACC``; empty where that is no metric.
    """

    subject: str
    gate: str
    passed: bool
    message: str
    metric: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.message} ({self.gate})"

    @property
    def name(self) -> str:
        """What is judged by which limit; the same whatever was measured."""
        return f"{self.gate}: {self.metric}" if self.metric else self.gate

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def judge(
    limits: Limits, runs: Sequence[RunResult], groups: Sequence[Group], left_out: Sequence[str] = ()
) -> list[Verdict]:
    """Compare results with limits.

    Args:
        limits: What they must keep.
        runs: Every run.
        groups: The same in groups, whose means are judged.
        left_out: A line for everything that was named and could not be read; not complete.

    Returns:
        A verdict for every limit and group, and for every run where each must be complete.

    Raises:
        InputError: If there is no baseline.
        DamagedError: If the baseline is no report.
    """
    names = distinct_names(groups)
    found = [
        _verdict(name, f"{option} {limit:g}", metric, group.spread(metric).mean, limit)
        for group, name in zip(groups, names, strict=True)
        for option, limit, metric in limits.fixed()
    ]
    if limits.baseline is not None:
        own = {name: _measured(group) for name, group in zip(names, groups, strict=True)}
        found += _compared(own, limits.baseline, limits.tolerance or 0.0)
    if limits.require_complete:
        found += _complete(runs, left_out)
    return found


def _verdict(
    subject: str, gate: str, metric: str, value: float | None, limit: float, than: str = ""
) -> Verdict:
    """Judge one mean by one limit.

    Args:
        subject: Name of the group.
        gate: The limit, as it is typed.
        metric: ``acc``, ``bwt`` or ``forgetting``.
        value: The mean, percent.
        limit: What it must keep, percent.
        than: What the limit is, for the message; the number alone if empty.
    """
    label, sign = _LABELS[metric], _SIGNS[metric]
    if value is None or not math.isfinite(value):
        message = f"there is no {label}: it has not been measured"
        return Verdict(subject, gate, False, message, label)
    ahead = sign * (value - limit)
    where = "at" if abs(ahead) <= _SLACK else f"{_amount(abs(ahead))} {_side(value > limit)}"
    message = f"{label} {fixed(value)} is {where} {than or f'{limit:g}'}"
    return Verdict(subject, gate, ahead >= -_SLACK, message, label)


def _side(is_above: bool) -> str:
    return "above" if is_above else "below"


def _amount(points: float) -> str:
    """Return a difference that is not shown as nothing where it is small."""
    return fixed(points) if points >= 0.005 else f"{points:.1g}"


def _measured(group: Group) -> dict[str, Any]:
    """Return what a baseline is compared by: tasks done and means."""
    means = {metric: group.spread(metric).mean for metric in _LABELS}
    return {"tasks": group.tasks_done, **means}


def _compared(own: Mapping[str, Mapping[str, Any]], path: Path, tolerance: float) -> list[Verdict]:
    saved = _saved(path)
    gate = f"--baseline {path} --tolerance {tolerance:g}"
    found = []
    for name in dict.fromkeys([*own, *saved]):
        if name not in saved:
            known = "; ".join(saved) or "none"
            message = f"the baseline has no such group, only: {known}"
            found.append(Verdict(name, gate, False, message))
        elif name not in own:
            message = "the baseline has this group, and no run here belongs to it"
            found.append(Verdict(name, gate, False, message))
        elif own[name]["tasks"] != saved[name]["tasks"]:
            done = counted(own[name]["tasks"], "task")
            message = f"{done} evaluated, {saved[name]['tasks']} in the baseline"
            found.append(Verdict(name, gate, False, message))
        else:
            found += _no_worse(name, gate, own[name], saved[name], tolerance)
    return found


def _no_worse(
    name: str, gate: str, own: Mapping[str, Any], saved: Mapping[str, Any], tolerance: float
) -> Iterator[Verdict]:
    """Yield a verdict per metric; a single task has neither BWT nor forgetting."""
    for metric in ("acc",) if own["tasks"] == 1 else tuple(_LABELS):
        before = saved[metric]
        if before is None:
            label = _LABELS[metric]
            message = f"the baseline has no {label} to compare with"
            yield Verdict(name, gate, False, message, label)
            continue
        limit = before - _SIGNS[metric] * tolerance
        than = f"{fixed(limit)}, the baseline's {fixed(before)} with the tolerance"
        yield _verdict(name, gate, metric, own[metric], limit, than)


def _saved(path: Path) -> dict[str, dict[str, Any]]:
    """Return tasks and means of the groups of a saved report, by name."""
    document = read_json(
        path, remedy="make it: ness report RUN ... --json > FILE", schema="ness.report/1"
    )
    try:
        return {
            str(group["name"]): {
                "tasks": int(group["tasks_done"]),
                **{metric: _number(group[metric]["mean"]) for metric in _LABELS},
            }
            for group in document["groups"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"--baseline: {path} is no report: {error!r}", _SAVE) from error


def _number(value: Any) -> float | None:
    """Return a finite number; JSON of other programs may hold NaN."""
    return float(value) if value is not None and math.isfinite(value) else None


def _complete(runs: Sequence[RunResult], left_out: Sequence[str]) -> Iterator[Verdict]:
    gate = "--require-complete"
    for run in runs:
        done, all_tasks = run.num_done, run.state.num_tasks
        message = f"{done} of {counted(all_tasks, 'task')} done"
        yield Verdict(str(run.path), gate, done == all_tasks, message)
    for line in left_out:
        yield Verdict("what was named", gate, False, line)
