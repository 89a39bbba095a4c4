"""A step of training, as the engine fills it in and methods see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.func import functional_call
from torch.nn import functional

from ness_cli import numerics
from ness_cli.data.batches import Batch, Images
from ness_cli.nets.multi_head import MultiHead
from ness_cli.processes import current_processes
from ness_cli.settings.sections import ComputeSettings


@dataclass(frozen=True)
class StepProgress:
    """Where in a phase a training step is; all counted from 0."""

    epoch: int
    step: int
    steps_per_epoch: int
    num_epochs: int

    @property
    def num_done(self) -> int:
        """Steps of the phase that lie behind."""
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def fraction(self) -> float:
        """Share of the phase that lies behind, in [0, 1)."""
        return self.num_done / (self.steps_per_epoch * self.num_epochs)


class TrainingForward:
    """The network's forward pass as training takes it: in its precision, compiled if asked for.

    Args:
        model: The network.
        compute: In which precision, and whether compiled.
    """

    def __init__(self, model: MultiHead, compute: ComputeSettings) -> None:
        self.model = model
        self.compute = compute

    @cached_property
    def _forward(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return numerics.compiled(self.model) if self.compute.compile == "on" else self.model

    def __call__(
        self, batch: Batch, weights: Mapping[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return the logits of the head of the batch's task, ``[n, num_classes]`` float32.

        Args:
            batch: The batch.
            weights: In place of parameters of the network, by name; the pass is not compiled then.
        """
        self.model.select(batch.task)
        lower = numerics.lower_precision(self.compute, batch.x.device)
        with numerics.tensor_cores(self.compute), lower:
            if weights is None:
                logits = self._forward(batch.x)
            else:
                logits = functional_call(self.model, dict(weights), (batch.x,))
        return logits.float()


@dataclass(frozen=True)
class TrainStep:
    """One step of training.

    Attributes:
        forward: The network's forward pass.
        batch: What is trained on, augmented and mixed; of several processes that divide a batch,
            this one's part of it.
        progress: Where in the phase the step is.
        images: The set that the batch was drawn from.
        positions: Where in it the images of ``batch`` lie, int64 ``[n]``.
        make_batch: Makes a batch of other images as that of the step was made: of a set and
            positions in it, augmented, mixed, and divided among processes.
    """

    forward: TrainingForward
    batch: Batch
    progress: StepProgress
    images: Images
    positions: torch.Tensor
    make_batch: Callable[[Images, torch.Tensor], Batch]

    def logits(self, batch: Batch | None = None) -> torch.Tensor:
        """Return the logits of a batch on the head of its task, ``[n, num_classes]`` float32.

        Args:
            batch: The step's own when ``None``.
        """
        return self.forward(self.batch if batch is None else batch)

    def backward(self, loss: torch.Tensor, batch: Batch | None = None) -> None:
        """Add the gradients of a loss to ``.grad``.

        Args:
            loss: A mean over the images of the batch, a scalar. Where several processes divide the
                batch it counts by this one's part: summed over processes, gradients are those of
                the mean over the whole batch.
            batch: The step's own when ``None``.
        """
        weight = (self.batch if batch is None else batch).weight
        with numerics.tensor_cores(self.forward.compute):
            (loss * weight).backward()  # type: ignore[no-untyped-call]

    def sum_over_processes(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors of one dtype and device by their sums over all processes."""
        current_processes().sum_(tensors)


def cross_entropy(logits: torch.Tensor, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
    """Return the mean cross-entropy of a batch, whose images may be mixtures of two; a scalar.

    Args:
        logits: ``[n, num_classes]`` float32.
        batch: Its labels and, with mixup, those of the partners, with the weight of the first: one
            for all images or one for each.
        smoothing: Share of every label that is spread over all classes, a fraction.
    """
    if batch.partner_y is None:
        return functional.cross_entropy(logits, batch.y, label_smoothing=smoothing)
    mix_weight = batch.mix_weight
    reduction = "none" if isinstance(mix_weight, torch.Tensor) else "mean"
    own, other = (
        functional.cross_entropy(logits, y, label_smoothing=smoothing, reduction=reduction)
        for y in (batch.y, batch.partner_y)
    )
    return (mix_weight * own + (1 - mix_weight) * other).mean()
