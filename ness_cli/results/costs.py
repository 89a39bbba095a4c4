"""What a run keeps, whether its layers need the task, and what its steps cost; no torch."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ness_cli.results.read_run import RunResult
from ness_cli.settings.identity import method_options

REFERENCE = "finetune"
"""The method whose steps others are compared with."""
_GROUPS = ("data.", "net.", "norm.", "compute.")


@dataclass(frozen=True)
class Costs:
    """What the accuracy of a run was bought with; ``None`` for what is not known of it.

    Attributes:
        model_bytes: Network, heads and statistics of normalisation, after the last task.
        memory_bytes: Besides the model, what later steps read.
        image_bytes: Of these, pixels of training images.
        task_numbers: Numbers that serve a single task each, of all tasks.
        trained_numbers: Parameters that training the last task may change.
        needs_task: Whether layers compute differently for every task.
        passes: How often a step of task 2 passes its batch forth and back.
        step_seconds: Median time of a step by the clock, over tasks after the first.
        step_ratio: That time over the one of finetuning's runs on the same images, network, batch
            size and machine.
    """

    model_bytes: int | None
    memory_bytes: int | None
    image_bytes: int | None
    task_numbers: int | None
    trained_numbers: int | None
    needs_task: bool | None
    passes: int | None
    step_seconds: float | None
    step_ratio: float | None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def costs(runs: Sequence[RunResult]) -> list[Costs]:
    """Return the costs of runs, those of steps beside those of finetuning's runs among them."""
    conditions = [_conditions(run) for run in runs]
    seconds = [_step_seconds(run) for run in runs]
    found = []
    for run, own, taken in zip(runs, conditions, seconds, strict=True):
        beside = [
            reference
            for other, theirs, reference in zip(runs, conditions, seconds, strict=True)
            if other.record["method"] == REFERENCE and theirs == own and reference
        ]
        ratio = taken / statistics.median(beside) if taken and beside else None
        found.append(_costs_of(run, taken, ratio))
    return found


def _costs_of(run: RunResult, seconds: float | None, ratio: float | None) -> Costs:
    kept = run.kept()
    options = method_options(run.record["method"], run.record["identity"])
    has_sam = run.record["identity"].get("train.sam.tasks") == "all"
    return Costs(
        model_bytes=kept.get("model_bytes"),
        memory_bytes=run.memory_bytes(),
        image_bytes=kept.get("image_bytes"),
        task_numbers=kept.get("task_numbers"),
        trained_numbers=kept.get("trained_numbers"),
        needs_task=None if options is None else options.needs_task(),
        passes=None if options is None else options.passes() * (2 if has_sam else 1),
        step_seconds=seconds,
        step_ratio=ratio,
    )


def _step_seconds(run: RunResult) -> float | None:
    """Return the median time of a training step, over tasks after the first."""
    records = [record for record in run.records("train")[1:] if record.get("steps")]
    times = [r["train_seconds"] / r["steps"] for r in records if r.get("train_seconds")]
    return statistics.median(times) if times else None


def _conditions(run: RunResult) -> str:
    """Return what must be equal for the steps of two runs to be comparable, as text.

    Optimiser and schedule are not among it: a method may need others.
    """
    identity = run.record["identity"]
    settings = {key: value for key, value in identity.items() if key.startswith(_GROUPS)}
    machine = [_machine(record) for record in run.records("train") if record]
    return json.dumps([settings, identity.get("train.batch_size"), machine[-1:]], sort_keys=True)


def _machine(record: Mapping[str, Any]) -> list[Any]:
    return [record.get(key) for key in ("device", "threads", "processes")]
