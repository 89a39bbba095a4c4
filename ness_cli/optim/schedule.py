"""Learning-rate schedules whose whole state is a few numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ness_cli.settings.sections import TrainSettings


@dataclass
class Schedule:
    """Learning rate over one phase of a task.

    ``plateau`` follows the published runs (GPM's and NESS's training loop): when the validation
    loss has not fallen strictly below its best for ``patience`` epochs, the rate is divided by
    ``lr_factor``; when it would fall below ``lr_min``, the task ends.

    Attributes:
        train: The settings.
        num_steps: Steps of the whole phase.
        num_epochs: Epochs of the whole phase, for ``exponential``.
        lr: Rate now, for ``plateau``.
        best: Lowest validation loss so far.
        patience_left: Epochs without improvement that are left before the rate drops.
    """

    train: TrainSettings
    num_steps: int
    num_epochs: int
    lr: float
    best: float = math.inf
    patience_left: int = 0

    @classmethod
    def start(cls, train: TrainSettings, num_steps: int, num_epochs: int = 1) -> Schedule:
        """Return the schedule at the first step."""
        return cls(train, num_steps, num_epochs, train.lr, patience_left=train.patience)

    def at(self, step: int) -> float:
        """Return the learning rate of step ``step``, counted from 0 over the whole phase."""
        fraction = step / max(1, self.num_steps)
        warmup = self.train.warmup
        if fraction < warmup:
            # The first step is not lost: it has the rate of the end of its part of the slope.
            return self.train.lr * min(1.0, (step + 1) / (warmup * self.num_steps))
        if self.train.schedule == "cosine":
            low = min(self.train.lr_min, self.train.lr)
            fraction = (fraction - warmup) / (1 - warmup) if warmup else fraction
            return low + (self.train.lr - low) * (1 + math.cos(math.pi * fraction)) / 2
        if self.train.schedule == "exponential":
            return float(self.train.lr * self.train.lr_decay ** (fraction * self.num_epochs))
        return self.lr

    def after_epoch(self, loss: float) -> tuple[bool, float | None]:
        """Take in the validation loss of an epoch.

        Args:
            loss: Mean loss; NaN counts as no improvement.

        Returns:
            Whether it is the best so far, and the factor by which the rate dropped: ``None`` if it
            did not, 0 if the task is to end.
        """
        if loss < self.best:
            self.best, self.patience_left = loss, self.train.patience
            return True, None
        if self.train.schedule != "plateau":
            return False, None
        self.patience_left -= 1
        if self.patience_left > 0:
            return False, None
        lower = self.lr / self.train.lr_factor
        if lower < self.train.lr_min:
            return False, 0.0
        self.lr, self.patience_left = lower, self.train.patience
        return False, self.train.lr_factor
