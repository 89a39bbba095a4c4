"""Makes training steps: the one place where the hooks of a step are called, in their order."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ness_cli.data.augment import Augment
from ness_cli.data.batches import Batch, Images
from ness_cli.data.mixup import mixed
from ness_cli.methods.base import Method
from ness_cli.methods.step import StepProgress, TrainingForward, TrainStep
from ness_cli.methods.task import Task
from ness_cli.optim.make import make_optimizer
from ness_cli.optim.sam import perturbed
from ness_cli.processes import current_processes
from ness_cli.settings.sections import TrainSettings


class Stepper:
    """The training steps of one phase of a task, with an optimiser of their own.

    Args:
        method: Has begun the task, and the phase.
        task: The task.
        train: Settings of the phase; those of the method when ``None``.
        forward: The network's forward pass, which phases share; a new one when ``None``.

    Attributes:
        parameters: What is trained, by name.
        optimizer: Steps them; ``None`` if there is nothing to train.
    """

    def __init__(
        self,
        method: Method,
        task: Task,
        train: TrainSettings | None = None,
        forward: TrainingForward | None = None,
    ) -> None:
        self.method = method
        self.train = train or method.train
        self.forward = forward or TrainingForward(method.model, method.compute)
        groups = method.parameter_groups(task)
        self.parameters: dict[str, nn.Parameter] = {}
        for group in groups:
            self.parameters.update(group.parameters)
        has_any = any(parameter.numel() for parameter in self.parameters.values())
        self.optimizer = make_optimizer(groups, self.train) if has_any else None
        augment = self.train.augment
        self.augment = Augment(augment, task.train.images.shape[1:]) if augment else None
        self.ascent_radius = method.ascent_radius(task, self.train)

    def step(self, images: Images, positions: torch.Tensor, progress: StepProgress) -> torch.Tensor:
        """Make one step on a batch.

        Args:
            images: The set that it is drawn from.
            positions: Where in it the images lie, int64 ``[n]``; processes divide them.
            progress: Where in the phase the step is.

        Returns:
            The mean loss over this process's part of the batch times the part's share of the whole
            batch, detached, a scalar: summed over processes, the mean over the batch.
        """
        assert self.optimizer is not None
        method = self.method
        batch = self._batch(images, positions)
        own, _ = current_processes().shard(positions)
        step = TrainStep(self.forward, batch, progress, images, own, self._batch)
        loss = self._gradients(step)
        if self.ascent_radius is not None:
            parameters = list(self.parameters.values())
            with perturbed(parameters, method.ascent_direction, self.ascent_radius):
                self._gradients(step)
        method.edit_gradients(step)
        if self.train.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters.values(), self.train.clip_norm)
        method.apply(step, self.optimizer)
        method.after_step(step)
        return loss * batch.weight

    def _batch(self, images: Images, positions: torch.Tensor) -> Batch:
        """Return this process's part of a batch, augmented and mixed."""
        own, weight = current_processes().shard(positions)
        batch = replace(images.batch(own, self.augment), weight=weight)
        return mixed(batch, self.train.mixup) if self.train.mixup else batch

    def _gradients(self, step: TrainStep) -> torch.Tensor:
        """Leave the gradients of the whole batch in ``.grad``; return the loss."""
        assert self.optimizer is not None
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.method.gradients(step)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        step.sum_over_processes(gradients)
        return loss
