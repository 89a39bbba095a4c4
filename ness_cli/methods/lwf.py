"""LwF: on the images of the new task, let old heads answer as they did before it.

From the second task on the training loss is, with z_i the logits of the head of task i,

    cross-entropy + lambda sum_(i < t) KL(softmax(z_i* / T) || softmax(z_i / T)),

the mean over the batch, z_i* the answers of the model as the task found it. Network, new head and
old heads train together. Up to a constant the divergence is the authors' cross-entropy, and it
starts at zero.

Remembered: nothing; the model before is the model of the task before. It is kept beside the model
in training and asked at every step: answers recorded once would be those to images without their
augmentation and mixing, and would have to be in memory for every image and head.

Source: Li, Hoiem, "Learning without Forgetting", ECCV 2016, Eqs. 2-4; their warm-up of the new head
is ``train.head_epochs``. Departures from their code: old heads are asked as they are evaluated,
without dropout and with the normalisation of their own task, both before and now; that takes a pass
of its own, and one for every earlier task if tasks are normalised differently. Where batches are
normalised by themselves, several processes do it by their own parts of a batch in these passes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from ness_cli import numerics
from ness_cli.methods.base import Method
from ness_cli.methods.step import TrainStep
from ness_cli.methods.task import Task
from ness_cli.nets.multi_head import MultiHead
from ness_cli.settings.methods.lwf import Options


class Lwf(Method):
    """No memory."""

    options: Options

    def start(self) -> None:
        """Begin with no model before."""
        self._before: MultiHead | None = None
        self._old_tasks: Sequence[int] = ()

    def trained_in(self, task_number: int) -> set[nn.Parameter]:
        """Return what trains in a task: old heads too."""
        heads = {
            parameter
            for earlier in range(1, min(task_number, self.model.num_tasks))
            for parameter in self.model.head(earlier).parameters()
        }
        return super().trained_in(task_number) | heads

    def begin_task(self, task: Task) -> None:
        """Keep a copy of the model as it is."""
        super().begin_task(task)
        if task.is_first:
            return
        self._before = copy.deepcopy(self.model).eval().requires_grad_(False)
        is_one_answer = self.model.shared_head and not self.model.features_need_task
        self._old_tasks = (1,) if is_one_answer else range(1, task.number)

    def loss(self, step: TrainStep) -> torch.Tensor:
        """Return the cross-entropy of the step's batch and, once the network trains, both terms."""
        loss = super().loss(step)
        if self._before is None or self._resting:
            return loss  # while the head learns alone, nothing that was learned can change
        return loss + self.options.strength * self.distillation(step.batch.x)

    def distillation(self, x: torch.Tensor) -> torch.Tensor:
        """Return how far the answers of old heads moved, summed over heads; a scalar.

        Args:
            x: Normalised images ``[n, c, h, w]``.
        """
        assert self._before is not None
        lower = numerics.lower_precision(self.compute, x.device)
        with numerics.tensor_cores(self.compute), lower:
            with torch.no_grad():
                before = self._before.logits_of(self._old_tasks, x)
            with self.task_view(self.model.task) as model:
                now = model.logits_of(self._old_tasks, x)
        scaled = (
            [functional.log_softmax(z.float() / self.options.temperature, dim=1) for z in pair]
            for pair in zip(now, before, strict=True)
        )
        ways = [
            functional.kl_div(new, old, reduction="batchmean", log_target=True)
            for new, old in scaled
        ]
        return torch.stack(ways).sum()

    def end_task(self, task: Task) -> None:
        """Forget the model before."""
        self._before, self._old_tasks = None, ()
