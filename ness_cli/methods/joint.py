"""Joint training: every task trains on the data of all tasks seen, the usual upper bound.

It keeps all old data, which no continual learner may; every report says so. Batches hold images of
one task each, in random order over all tasks, so that batch statistics are those of one task as
they are when it is evaluated. Validation is the mean over the validation images of all tasks seen.
"""

from __future__ import annotations

from torch import nn

from ness_cli.data.batches import Images
from ness_cli.methods.base import Method
from ness_cli.methods.task import Task


class Joint(Method):
    """Trains everything, on everything."""

    def trained_in(self, task_number: int) -> set[nn.Parameter]:
        """Return all parameters: nothing is frozen when all data is there."""
        own = (self.model.own_parameters(each) for each in range(1, task_number + 1))
        return set(self.model.parameters()).union(*own)

    def training_sets(self, task: Task) -> list[Images]:
        """Return the training images of every task seen."""
        return [*task.past, task.train]

    def validation_sets(self, task: Task) -> list[Images]:
        """Return the validation images of every task seen; all of them count alike."""
        return [*task.past_valid, *super().validation_sets(task)]
