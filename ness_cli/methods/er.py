"""ER: in every step, train on some stored images of earlier tasks as well.

From the second task on a step descends

    (1 - w) (mean loss of the batch) + w (mean loss of stored images drawn at random).

Remembered: a fixed number of training images and their labels.

Source: Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019, Algorithm 1.
Departures: images of a task are stored once it is learned, since it is trained for several epochs;
the stored images of a step are of one task, unless ``mix_tasks``.
"""

from __future__ import annotations

import torch

from ness_cli.methods.base_replay import ReplayMethod
from ness_cli.methods.step import TrainStep
from ness_cli.settings.methods.er import Options


class Er(ReplayMethod):
    """Memory: that of every method that replays."""

    options: Options

    def gradients(self, step: TrainStep) -> torch.Tensor:
        """Leave the gradients of both losses, and return their weighted mean."""
        options = self.options
        count = options.replay_batch or self.train.batch_size
        if not self.replayed(step, count, is_mixed=options.mix_tasks):
            return super().gradients(step)
        weight = options.replay_weight
        own = self.loss(step)
        step.backward((1 - weight) * own)
        return (1 - weight) * own.detach() + weight * self.replay(step, weight)
