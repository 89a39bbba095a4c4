"""L2-SP: pull every weight back to where the task found it, as strongly as any other.

From the second task on the loss, in training and in validation, is

    cross-entropy + (alpha / 2) ||theta - theta*||^2 + (beta / 2) ||head||^2,

theta the parameters that tasks share, theta* their values after the task before, head that of the
task alone. It is EWC with every weight equally important.

Remembered: nothing; theta* is the model of the task before.

Source: Li, Grandvalet, Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional
Networks", ICML 2018, Eq. 2, where theta* is a pretrained network and there is one task; here every
task starts from the one before. The penalty takes the place of ``train.weight_decay``, which adds
to it if set. Departures from their code: per-task scales of normalisation are not decayed, since
zero is no neutral value of a scale.
"""

from __future__ import annotations

import torch
from torch import nn

from ness_cli.methods.base import Method
from ness_cli.methods.step import StepProgress
from ness_cli.methods.task import Task
from ness_cli.settings.methods.l2_sp import Options


class L2Sp(Method):
    """No memory."""

    options: Options

    def start(self) -> None:
        """Begin with nothing to go back to."""
        self._starts: list[tuple[nn.Parameter, torch.Tensor]] = []
        self._head: list[nn.Parameter] = []

    def begin_task(self, task: Task) -> None:
        """Note where the weights are."""
        super().begin_task(task)
        if task.is_first:
            return
        self._starts = [(p, p.detach().clone()) for p in self.shared().values()]
        if not self.model.shared_head:
            self._head = list(self.model.head(task.number).parameters())

    def penalty(self, progress: StepProgress | None) -> torch.Tensor | None:
        """Return both terms; nothing in the first task."""
        if not self._starts:
            return None
        ways = [(theta - start).square().sum() for theta, start in self._starts]
        penalty = self.options.strength / 2 * torch.stack(ways).sum()
        for parameter in self._head:
            penalty = penalty + self.options.head_decay / 2 * parameter.square().sum()
        return penalty

    def end_task(self, task: Task) -> None:
        """Forget where the weights were."""
        self._starts, self._head = [], []
