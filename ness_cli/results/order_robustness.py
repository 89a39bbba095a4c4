"""How much the accuracy on a task depends on the order in which the tasks are learned."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ness_cli.results.accuracy_matrix import mean
from ness_cli.results.read_run import RunResult
from ness_cli.results.summary import Group
from ness_cli.settings.identity import completed

_ORDER = ("seed", "data.task_order", "data.class_order")


@dataclass(frozen=True)
class OrderRobustness:
    """Order-normalised performance disparity (Yoon et al. 2020) of one experiment.

    Attributes:
        preset: Its preset.
        method: Its method and variant.
        num_orders: In how many orders its tasks were learned.
        num_runs: Runs that count.
        mopd: The largest disparity of a task, points of percent.
        aopd: Their mean.
    """

    preset: str
    method: str
    num_orders: int
    num_runs: int
    mopd: float
    aopd: float

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def order_robustness(groups: Sequence[Group]) -> list[OrderRobustness]:
    """Return the disparities of experiments whose tasks were learned in several orders.

    Runs belong together that agree in all but the order of their tasks and their seed, and have
    learned the same tasks to the end. Runs that were extended are left out.
    """
    streams: dict[tuple[str, ...], list[RunResult]] = {}
    for run in (run for group in groups for run in group.furthest if _is_complete(run)):
        streams.setdefault(tuple(sorted(_order(run))), []).append(run)
    families: dict[str, list[RunResult]] = {}
    for runs in streams.values():
        if len({_order(run) for run in runs}) > 1:
            for run in runs:
                families.setdefault(_family(run), []).append(run)
    return [found for runs in families.values() for found in _of(runs)]


def _is_complete(run: RunResult) -> bool:
    last = run.task_incremental.last
    has_all = last == run.state.num_tasks and len(run.task_incremental.scored) == last
    return has_all and not run.extensions and all(task.key for task in run.tasks)


def _order(run: RunResult) -> tuple[str, ...]:
    return tuple(task.key for task in run.tasks)


def _family(run: RunResult) -> str:
    identity = completed(run.record["identity"])
    own = {key: value for key, value in identity.items() if key not in _ORDER}
    if isinstance(own.get("data.sources"), list):
        own["data.sources"] = sorted(json.dumps(each) for each in own["data.sources"])
    content = run.record.get("content", run.record["stream_key"])
    return json.dumps([own, content, sorted(_order(run))], sort_keys=True)


def _of(runs: Sequence[RunResult]) -> Iterator[OrderRobustness]:
    """Yield the disparities of runs of one experiment, if they differ in order at all."""
    orders: dict[tuple[str, ...], list[dict[str, float | None]]] = {}
    for run in runs:
        final = dict(zip(_order(run), run.task_incremental.final, strict=True))
        orders.setdefault(_order(run), []).append(final)
    if len(orders) < 2:
        return
    tasks = sorted(next(iter(orders)))
    means = [
        [mean([final[key] for final in finals]) for key in tasks] for finals in orders.values()
    ]
    disparities = [
        max(known) - min(known)
        for column in zip(*means, strict=True)
        if (known := [value for value in column if value is not None])
    ]
    first = runs[0]
    yield OrderRobustness(
        str(first.record["preset"]),
        first.method,
        len(orders),
        len(runs),
        max(disparities),
        sum(disparities) / len(disparities),
    )
