"""DFGP: GPM at a flat minimum, of the weights and of the images.

The loss of a batch is that of its images, and w times that of images mixed with others of it,

    L(W, lambda) = CE(x, y) + w CE(mixed), x_mixed = (1 - lambda_i) x_i + lambda_i x_pi(i),

the two labels of a mixed image weighted like the images. A step goes uphill first, in the weights
and in the proportions, and takes the gradient there:

    lambda <- clip(lambda + mix_rho dL/dlambda / ||dL/dlambda||, 0, 1),
    W' = W + rho dL/dW / ||dL/dW||,  the norm over all weights that train,
    G = dL(W', lambda)/dW,  G <- G - G M M^T.

The way uphill is not projected; the step is, as GPM's. The first task goes uphill too.

Remembered: what GPM remembers. The threshold is the same for all tasks.

Source: Yang, Yang, Xu, Tong, Shi, Wang, "Data Augmented Flatness-aware Gradient Projection for
Continual Learning", ICCV 2023. Departures from their code: labels are weighted like the images they
belong to (theirs swap the two weights, and take the mean over the batch: ``labels=swapped``); only
what trains goes uphill (theirs: frozen scales and shifts too); ``mixed_fraction`` is ours; and
those of ``gpm``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from ness_cli.data.batches import Batch
from ness_cli.data.mixup import symmetric_beta
from ness_cli.methods.base import Method
from ness_cli.methods.gpm import Gpm
from ness_cli.methods.step import TrainStep, cross_entropy
from ness_cli.methods.task import Task
from ness_cli.settings.methods.dfgp import Options
from ness_cli.settings.sections import TrainSettings


@dataclass
class Mixture:
    """How the images of a step are mixed.

    Attributes:
        batch: The batch of the step.
        partner: Which image is mixed into each, int64 ``[m]``; they are the first m of the batch.
        proportions: How much of it, lambda, ``[m]`` float32.
    """

    batch: Batch
    partner: torch.Tensor
    proportions: torch.Tensor

    def mixed(self, *, swapped: bool) -> Batch:
        """Return the mixed images; the weights of labels are constants to the gradient."""
        batch, size = self.batch, len(self.partner)
        part = self.proportions.view(-1, *[1] * (batch.x.dim() - 1))
        other, of_labels = self.partner, self.proportions.detach()
        x = (1 - part) * batch.x[:size] + part * batch.x[other]
        weight = float(of_labels.mean()) if swapped else 1 - of_labels
        return replace(batch, x=x, y=batch.y[:size], partner_y=batch.y[other], mix_weight=weight)


class Dfgp(Gpm):
    """Memory: ``memory`` as GPM's."""

    options: Options

    def start(self) -> None:
        """Begin with nothing protected, between two steps."""
        super().start()
        self._mixture: Mixture | None = None

    def ascent_radius(self, task: Task, train: TrainSettings) -> float | None:
        """Return rho, in every task."""
        return self.options.rho or None

    def ascent_direction(self, parameter: nn.Parameter) -> torch.Tensor:
        """Return the gradient, also of a confined weight."""
        return Method.ascent_direction(self, parameter)

    def gradients(self, step: TrainStep) -> torch.Tensor:
        """Leave the gradients of plain and mixed images; first move the proportions uphill."""
        mixture = self._mixture
        is_ascent = mixture is None or mixture.batch is not step.batch
        if mixture is None or is_ascent:
            mixture = self._mixture = self._draw(step.batch)
        proportions = mixture.proportions.requires_grad_(is_ascent)
        # The way uphill needs whole gradients.
        self._project_rows(is_on=not (is_ascent and self.options.rho))
        loss = self._loss(step, mixture)
        step.backward(loss)
        if is_ascent and proportions.grad is not None:
            mixture.proportions = self._uphill(step, proportions)
        return loss.detach()

    def _draw(self, batch: Batch) -> Mixture:
        """Draw a mixture for a batch, from torch's default generator."""
        # One image that normalises by itself is all zeros.
        fewest = 1 if self.model.statistics == "none" else min(2, len(batch))
        size = max(fewest, -int(-len(batch) * self.options.mixed_fraction // 1))
        partner = torch.randperm(len(batch))[:size].to(batch.x.device)
        proportions = symmetric_beta(self.options.alpha, size).to(batch.x)
        return Mixture(batch, partner, proportions)

    def _loss(self, step: TrainStep, mixture: Mixture) -> torch.Tensor:
        smoothing = self.train.label_smoothing
        loss = cross_entropy(step.logits(), step.batch, smoothing)
        if not self.options.mixed_loss:
            return loss
        mixed = mixture.mixed(swapped=self.options.labels == "swapped")
        return loss + self.options.mixed_loss * cross_entropy(step.logits(mixed), mixed, smoothing)

    def _uphill(self, step: TrainStep, proportions: torch.Tensor) -> torch.Tensor:
        """Return the proportions after their step; its length is that of the whole batch."""
        gradient = proportions.grad
        assert gradient is not None
        square = gradient.square().sum()
        step.sum_over_processes([square])
        moved = proportions.detach() + self.options.mix_rho * gradient / (square.sqrt() + 1e-16)
        return moved.clamp(0, 1)

    def after_step(self, step: TrainStep) -> None:
        """Forget how the step's images were mixed."""
        self._mixture = None
