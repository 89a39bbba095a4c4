"""Averaging of weights over the last steps of a task (Izmailov et al. 2018).

Updates inside a subspace have averages inside it, so what is promised of the one holds for the
other.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class WeightAverage:
    """Running mean of parameters, in their own precision.

    Args:
        first_step: Step of the phase, from 0, from which on weights count.
    """

    def __init__(self, first_step: int) -> None:
        self.first_step = first_step
        self.count = 0
        self.tensors: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def add(self, parameters: Mapping[str, nn.Parameter], step: int) -> None:
        """Take in the weights after a step of the phase, counted from 0."""
        if step < self.first_step:
            return
        self.count += 1
        if self.count == 1:
            self.tensors = {name: p.detach().clone() for name, p in parameters.items()}
            return
        means = [self.tensors[name] for name in parameters]
        values = [parameter.detach() for parameter in parameters.values()]
        torch._foreach_lerp_(means, values, 1 / self.count)
