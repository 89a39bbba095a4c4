"""How long runs will take, from the records of runs of the same kind; no torch.

A kind is what decides the work of a step: images, network, normalisation, training and method.
Seeds and the numbers among a method's options do not; time in epochs grows with their number.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ness_cli.errors import NessError
from ness_cli.results.find_runs import find_runs
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_record, read_run_record

_NOT_OF_THE_KIND = ("seed", "train.epochs", "data.num_tasks", "data.task_order", "data.split_seed")


@dataclass(frozen=True)
class TaskSeconds:
    """What a task took, in seconds.

    Attributes:
        epochs: In its epochs.
        num_epochs: How many these were.
        training: In training besides.
        after: In consolidation and evaluation.
    """

    epochs: float
    num_epochs: int
    training: float
    after: float

    def of(self, num_epochs: int, *, is_trained: bool) -> float:
        """Return what it would take with another number of epochs, or trained already."""
        training = self.training + self.epochs * num_epochs / self.num_epochs
        return self.after + (0.0 if is_trained else training)


@dataclass(frozen=True)
class Work:
    """A run whose time is asked for.

    Attributes:
        identity: Its settings, flat.
        num_tasks: Its tasks.
        num_shared: Its first tasks whose training it shares with another run.
    """

    identity: Mapping[str, Any]
    num_tasks: int
    num_shared: int = 0


@dataclass(frozen=True)
class Estimate:
    """How long a run will take.

    Attributes:
        seconds: By the clock.
        num_runs: From how many runs that is known.
    """

    seconds: float
    num_runs: int


@dataclass
class Timings:
    """What tasks took in runs that there are, by kind."""

    _runs: dict[str, list[tuple[dict[str, Any], dict[int, TaskSeconds]]]] = field(
        default_factory=dict
    )

    def add(self, folders: Iterable[Path], threads: int) -> None:
        """Add what is known from all runs below some folders.

        Args:
            folders: Those that are not there count for nothing.
            threads: Steps on a CPU with another number of threads are left out.
        """
        for folder in folders:
            try:
                paths = find_runs([folder]).runs
            except NessError:  # there is no run
                continue
            for path in paths:
                self._add(RunDir(path), threads)

    def _add(self, run: RunDir, threads: int) -> None:
        try:
            record = read_run_record(run)
            tasks = {
                task: seconds
                for task in range(1, int(record["num_tasks"]) + 1)
                if (seconds := _seconds_of(run, task, threads)) is not None
            }
            identity = record["identity"]
        except (NessError, KeyError, TypeError, ValueError):  # damaged: of no use here
            return
        if tasks:
            self._runs.setdefault(kind(identity), []).append((_options(identity), tasks))

    def estimate(self, work: Work) -> Estimate | None:
        """Return how long a run will take; ``None`` if there is none of its kind."""
        alike = self._runs.get(kind(work.identity), [])
        same = [tasks for options, tasks in alike if options == _options(work.identity)]
        known = same or [tasks for _, tasks in alike]
        if not known:
            return None
        epochs = int(work.identity.get("train.epochs", 1))
        return Estimate(
            sum(
                self._task(known, task, epochs, is_trained=task <= work.num_shared)
                for task in range(1, work.num_tasks + 1)
            ),
            len(known),
        )

    @staticmethod
    def _task(
        known: list[dict[int, TaskSeconds]], task: int, epochs: int, *, is_trained: bool
    ) -> float:
        """Return the time of a task, or of the last before it where no run has come so far."""
        nearest = max((t for tasks in known for t in tasks if t <= task), default=None)
        own = [tasks[nearest] for tasks in known if nearest in tasks] if nearest else []
        own = own or [each for tasks in known for each in tasks.values()]
        return statistics.fmean(each.of(epochs, is_trained=is_trained) for each in own)


def _seconds_of(run: RunDir, task: int, threads: int) -> TaskSeconds | None:
    train, *others = (read_record(run, task, step) for step in ("train", "build", "evaluate"))
    if "seconds" not in train or not all("seconds" in each for each in others):
        return None
    if train.get("device", "cpu") == "cpu" and train.get("threads", threads) != threads:
        return None
    epochs = float(train.get("train_seconds", train["seconds"]))
    return TaskSeconds(
        epochs,
        max(1, int(train.get("epochs", 1))),
        float(train["seconds"]) - epochs,
        sum(float(each["seconds"]) for each in others),
    )


def kind(identity: Mapping[str, Any]) -> str:
    """Return what decides the work of a run's steps, as one text."""
    own = {
        key: value
        for key, value in identity.items()
        if key not in _NOT_OF_THE_KIND and not key.startswith("methods.")
    }
    return json.dumps(own, sort_keys=True)


def _options(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in identity.items() if key.startswith("methods.")}
