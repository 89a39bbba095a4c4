"""The metrics of runs; ``metrics.py`` says what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ness_cli.results.accuracy_matrix import mean
from ness_cli.results.costs import Costs
from ness_cli.results.metrics import NAMES
from ness_cli.results.read_run import RunResult

Values = Mapping[str, float | None]
UPPER_BOUND = "joint"
"""The method that trains on the data of all tasks seen."""


def run_metrics(runs: Sequence[RunResult], found: Sequence[Costs]) -> list[Values]:
    """Return the metrics of runs by name, ``None`` for what is not known.

    Args:
        runs: The runs; those of method ``joint`` among them are what others are compared with.
        found: Their costs.
    """
    joint = [run for run in runs if run.record["method"] == UPPER_BOUND]
    return [
        {name: value for name, value in _metrics(run, own, joint).items() if name in NAMES}
        for run, own in zip(runs, found, strict=True)
    ]


def _metrics(run: RunResult, own: Costs, joint: Sequence[RunResult]) -> dict[str, float | None]:
    room = run.room
    lasting = [each.tasks_left for each in room if each.tasks_left is not None]
    return {
        **run.task_incremental.summary(),
        "forgetting_diagonal": run.task_incremental.forgetting_diagonal,
        "fwt": run.fwt,
        "intransigence": intransigence(run, joint),
        "class_acc": run.class_incremental.acc,
        "room": min((each.percent for each in room), default=None),
        "tasks_left": min(lasting, default=None),
        **own.as_json(),
    }


def intransigence(run: RunResult, joint: Sequence[RunResult]) -> float | None:
    """Return how far a run stays below joint training on each task when it has just learned it.

    Args:
        run: The run.
        joint: Runs of method ``joint``. Those on the same tasks and network count, of them the one
            of the same seed, or all where there is none.

    Returns:
        Points of percent; ``None`` for a run of method ``joint`` itself, and without any.
    """
    if run.record["method"] == UPPER_BOUND:
        return None
    beside = [other for other in joint if benchmark(other) == benchmark(run)]
    beside = [o for o in beside if o.record["seed"] == run.record["seed"]] or beside
    gaps = []
    for index, learned in enumerate(run.task_incremental.learned):
        best = [o.task_incremental.learned[index : index + 1] for o in beside]
        reached = mean([value for each in best for value in (each or (None,))])
        gaps.append(None if learned is None or reached is None else reached - learned)
    return mean(gaps)


def benchmark(run: RunResult) -> str:
    """Return what two runs have in common that learn the same tasks with the same network."""
    identity = run.record["identity"]
    net = {key: value for key, value in identity.items() if key.startswith("net.")}
    return json.dumps([net, *stream_of(run)], sort_keys=True)


def stream_of(run: RunResult) -> list[Any]:
    """Return what two runs have in common that learn the same tasks, as plain values.

    Not the key of the stream: with ``data.split_seed=run`` every seed has one of its own.
    """
    identity = run.record["identity"]
    own = {key: value for key, value in identity.items() if key.startswith("data.")}
    content = run.record.get("content", run.record["stream_key"])
    return [own, content, *(each.stream["content"] for each in run.extensions)]
