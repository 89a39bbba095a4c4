"""A-GEM: a step may not increase, to first order, the mean loss of stored images.

From the second task on let g be the gradient of a batch and r that of the mean loss over images
drawn from the memory, each scored on the head of its own task, both over all trained parameters
together. Where <g, r> < 0, the nearest gradient without that conflict takes the place of g:

    g <- g - (<g, r> / <r, r>) r.

Remembered: training images of every class and their labels.

Source: Chaudhry, Ranzato, Rohrbach, Elhoseiny, "Efficient Lifelong Learning with A-GEM", ICLR 2019,
Eq. 11. Departures from their code: a smaller last batch is divided by its own size; the memory
never wraps around; r = 0 is no division by zero; batch normalisation keeps no running average over
tasks, and images of every task are normalised among themselves. Their rings hold the last images of
every class: after an epoch in random order a random sample, which is drawn as such here, once the
task is learned. With SAM, g is that of the perturbed weights and r that of the weights themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ness_cli.methods.base_replay import ReplayMethod
from ness_cli.methods.step import TrainStep
from ness_cli.settings.methods.agem import Options

Gradients = Sequence[torch.Tensor | None]


class Agem(ReplayMethod):
    """Memory: that of every method that replays."""

    options: Options

    def edit_gradients(self, step: TrainStep) -> None:
        """Take out of the gradient what stored images would suffer from."""
        if not self.replayed(step, self.options.memory_batch, is_mixed=True):
            return
        parameters = list(self.trainable().values())
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        self.replay(step)
        references = [parameter.grad for parameter in parameters]
        step.sum_over_processes([r for r in references if r is not None])
        for parameter, g in zip(parameters, without_conflict(gradients, references), strict=True):
            parameter.grad = g


@torch.no_grad()
def without_conflict(gradients: Gradients, references: Gradients) -> Gradients:
    """Return the gradients nearest to the given ones that do not oppose the references.

    Args:
        gradients: g, a tensor for every parameter; ``None`` counts as zeros.
        references: r, likewise.
    """
    pairs = list(zip(gradients, references, strict=True))
    both = [(g * r).sum() for g, r in pairs if g is not None and r is not None]
    if not both or not (conflict := torch.stack(both).sum()) < 0:
        return gradients
    length = torch.stack([r.square().sum() for r in references if r is not None]).sum()
    factor = conflict / length.clamp(min=torch.finfo(length.dtype).tiny)
    return [g if r is None else -factor * r if g is None else g - factor * r for g, r in pairs]
