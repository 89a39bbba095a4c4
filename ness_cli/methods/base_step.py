"""The hooks of a training step, in the order in which they are called."""

from __future__ import annotations

import torch
from torch import nn

from ness_cli.methods.step import StepProgress, TrainStep, cross_entropy
from ness_cli.methods.task import Task
from ness_cli.settings.sections import TrainSettings


class StepHooks:
    """Every step goes down the gradient of the batch's mean loss.

    Attributes:
        train: How a task is trained.
    """

    train: TrainSettings

    def loss(self, step: TrainStep) -> torch.Tensor:
        """Return the mean cross-entropy of the step's batch, and any penalty; a scalar.

        Of several processes each returns the mean over its own part of the batch.
        """
        loss = cross_entropy(step.logits(), step.batch, self.train.label_smoothing)
        penalty = self.penalty(step.progress)
        return loss if penalty is None else loss + penalty

    def penalty(self, progress: StepProgress | None) -> torch.Tensor | None:
        """Return what is added to the loss whatever the batch, a scalar; ``None`` for nothing.

        Args:
            progress: Where in training the step is; ``None`` for the loss of validation.
        """
        return None

    def gradients(self, step: TrainStep) -> torch.Tensor:
        """Leave gradients in ``.grad``, where there are none yet, and return the loss, detached.

        Called once a step; where there is an ``ascent_radius``, a second time for the same step at
        the perturbed weights. What is left is raw: neither summed over processes, which is done
        next, nor projected, except where a layer's backward pass projects.
        """
        loss = self.loss(step)
        step.backward(loss)
        return loss.detach()

    def ascent_radius(self, task: Task, train: TrainSettings) -> float | None:
        """Return how far uphill gradients are taken a second time; ``None`` for not at all.

        Args:
            task: The task.
            train: Settings of the phase. Base: SAM, in the tasks that they name.
        """
        tasks = train.sam.tasks
        has_sam = tasks == "all" or (tasks == "first" and task.is_first)
        return train.sam.rho if has_sam else None

    def ascent_direction(self, parameter: nn.Parameter) -> torch.Tensor:
        """Return where SAM may go uphill: the gradient, unless training is confined.

        ``.grad`` is summed over processes, and not projected.
        """
        assert parameter.grad is not None
        return parameter.grad

    def edit_gradients(self, step: TrainStep) -> None:
        """Project, mask or combine the gradients before the step.

        ``.grad`` is summed over processes; with SAM it is that of the perturbed weights, and the
        weights are back where they were. Norms are clipped after it.
        """

    def apply(self, step: TrainStep, optimizer: torch.optim.Optimizer) -> None:
        """Make the step with edited gradients; override to edit the step itself."""
        optimizer.step()

    def after_step(self, step: TrainStep) -> None:
        """Clamp parameters, feed an episodic memory. ``.grad`` is what the step was made with."""
