"""Where the training of a task is, and what it needs besides the method and the task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ness_cli.engine.checkpoint import CheckpointFile
from ness_cli.settings.sections import TrainSettings
from ness_cli.stop_request import StopRequest


@dataclass
class FitState:
    """Where a task's training is; plain values that survive in JSON exactly.

    ``phase``, ``epoch`` and ``step`` count from 0 and say what comes next; ``seconds`` is training
    time over all processes so far; ``history`` has an entry per finished epoch. ``kept`` is what
    was measured of the weights that the latest phase ended with, ``skipped`` the names of phases
    that had nothing to train.
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0
    num_steps_done: int = 0
    lr: float = 0.0
    best: float | None = None
    patience_left: int = 0
    num_averaged: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    kept: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FitContext:
    """What training a task needs besides the method and the task.

    Attributes:
        train: The settings.
        seed: The run's seed.
        batch_size: Images per forward pass of validation with batch statistics.
        checkpoint: Where to save and resume.
        checkpoint_seconds: Seconds between checkpoints; 0 saves after every step.
        stop: Asked at every step boundary.
        resume: Command that resumes, for the message of a stop.
        on_epoch: Told the history at the start and after every epoch.
        advance: Told of finished steps, with a line of what is going on.
        note: Told what the user should know.
    """

    train: TrainSettings
    seed: int
    batch_size: int
    checkpoint: CheckpointFile
    checkpoint_seconds: float
    stop: StopRequest
    resume: str
    on_epoch: Callable[[list[dict[str, Any]]], None]
    advance: Callable[[int, str], None]
    note: Callable[[str], None]
