"""How long runs will take, from the records of runs of the same kind; no torch.

A kind is what decides the work of a step: images, network, normalisation, training and method.
Seeds, rates and the numbers among a method's options do not; epochs take time by their number.
What a run takes besides its steps, to start, between its tasks and to end, is that of other runs.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ness_cli.errors import NessError
from ness_cli.results.find_runs import find_runs
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_record, read_run_record
from ness_cli.study.folder import exit_file, job_seconds

_NOT_OF_THE_KIND = (
    *("seed", "train.epochs", "train.head_epochs"),
    *("data.num_tasks", "data.task_order", "data.split_seed"),
)
_RATES = tuple(
    f"train.{name}"
    for name in ("lr", "momentum", "weight_decay", "warmup", "lr_decay", "lr_min", "sam.rho")
)
"""What decides no work, but may decide when training ends."""


@dataclass(frozen=True)
class TaskSeconds:
    """What a task took, in seconds.

    Attributes:
        epochs: In its epochs.
        num_epochs: How many were asked for: where training ended before, it will again.
        training: In training besides.
        after: In consolidation and evaluation.
        finished: When it was evaluated, in seconds since 1970; ``None`` if that is not known.
    """

    epochs: float
    num_epochs: int
    training: float
    after: float
    finished: float | None = None

    @property
    def total(self) -> float:
        """The time of all its steps."""
        return self.epochs + self.training + self.after

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
    """What runs that there are took, their tasks by kind.

    Attributes:
        command: What a run takes to start and to end, where no run tells.
    """

    command: float = 0.0
    _runs: dict[str, list[tuple[dict[str, Any], dict[int, TaskSeconds]]]] = field(
        default_factory=dict
    )
    _between: list[float] = field(default_factory=list)
    _commands: list[float] = field(default_factory=list)

    def add(self, folders: Iterable[Path], threads: int) -> None:
        """Add what is known from all runs below some folders, each counted once.

        Args:
            folders: Those that are not there count for nothing.
            threads: Steps on a CPU with another number of threads are left out.
        """
        found = dict[Path, None]()
        for folder in folders:
            with suppress(NessError):  # there is no run
                found.update(dict.fromkeys(path.resolve() for path in find_runs([folder]).runs))
        for path in found:
            self._add(RunDir(path), threads)

    def _add(self, run: RunDir, threads: int) -> None:
        try:
            record = read_run_record(run)
            identity, num_tasks = record["identity"], int(record["num_tasks"])
            epochs = max(1, int(identity["train.epochs"]))
            tasks = {
                task: seconds
                for task in range(1, num_tasks + 1)
                if (seconds := _seconds_of(run, task, threads, epochs)) is not None
            }
        except (NessError, KeyError, TypeError, ValueError):  # damaged: of no use here
            return
        if tasks:
            self._runs.setdefault(kind(identity), []).append((_options(identity), tasks))
            self._add_besides(run, tasks)

    def _add_besides(self, run: RunDir, tasks: Mapping[int, TaskSeconds]) -> None:
        """Add what a run took between its tasks, and to start and to end."""
        between = [
            max(0.0, own.finished - before.finished - own.total)
            for task, own in tasks.items()
            if (before := tasks.get(task - 1)) and own.finished and before.finished
        ]
        # Of a run that was interrupted one is as long as the break.
        self._between += [statistics.median(between)] if between else []
        seconds = job_seconds(exit_file(run.path))
        known = sum(own.total for own in tasks.values()) + len(between) * self._pause
        # Less is the last command of several.
        self._commands += [seconds - known] if seconds is not None and seconds >= known else []

    @property
    def _pause(self) -> float:
        return statistics.fmean(self._between) if self._between else 0.0

    def estimate(self, work: Work) -> Estimate | None:
        """Return how long a run will take; ``None`` if there is none of its kind."""
        alike = self._runs.get(kind(work.identity), [])
        wanted = _options(work.identity)
        same = [tasks for options, tasks in alike if options == wanted]
        known = same or [tasks for _, tasks in alike]
        if not known:
            return None
        epochs = int(work.identity.get("train.epochs", 1))
        seconds = [
            self._task(known, task, epochs, is_trained=task <= work.num_shared)
            for task in range(1, work.num_tasks + 1)
        ]
        command = statistics.median(self._commands) if self._commands else self.command
        besides = command + self._pause * (work.num_tasks - 1)
        return Estimate(sum(seconds) + besides, len(known))

    @staticmethod
    def _task(
        known: list[dict[int, TaskSeconds]], task: int, epochs: int, *, is_trained: bool
    ) -> float:
        """Return the time of a task, or of the last before it where no run has come so far."""
        nearest = max((t for tasks in known for t in tasks if t <= task), default=None)
        own = [tasks[nearest] for tasks in known if nearest in tasks] if nearest else []
        own = own or [each for tasks in known for each in tasks.values()]
        return statistics.fmean(each.of(epochs, is_trained=is_trained) for each in own)


def _seconds_of(run: RunDir, task: int, threads: int, num_epochs: int) -> TaskSeconds | None:
    train, *others = (read_record(run, task, step) for step in ("train", "build", "evaluate"))
    if "seconds" not in train or not all("seconds" in each for each in others):
        return None
    if train.get("device", "cpu") == "cpu" and train.get("threads", threads) != threads:
        return None
    epochs, finished = float(train.get("train_seconds", train["seconds"])), None
    if (last := others[-1].get("finished")) is not None:
        finished = datetime.fromisoformat(last).timestamp()
    return TaskSeconds(
        epochs,
        num_epochs,
        float(train["seconds"]) - epochs,
        sum(float(each["seconds"]) for each in others),
        finished,
    )


def kind(identity: Mapping[str, Any]) -> str:
    """Return what decides the work of a run's steps, as one text."""
    left_out = {*_NOT_OF_THE_KIND, *_options(identity)}
    return json.dumps({k: v for k, v in identity.items() if k not in left_out}, sort_keys=True)


def _options(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides little: rates, and the options of the method."""
    return {k: v for k, v in identity.items() if k.startswith("methods.") or k in _RATES}
