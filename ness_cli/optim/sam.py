"""Sharpness-aware minimisation (Foret et al. 2021): take the gradient at the worst nearby point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

_TINY = 1e-16


@contextmanager
def perturbed(
    parameters: Sequence[nn.Parameter],
    direction: Callable[[nn.Parameter], torch.Tensor],
    rho: float,
) -> Iterator[None]:
    """Move the parameters by ``rho`` uphill for the time of the ``with`` block.

    With gradient g and direction d = P g, the step is rho * d / sqrt(sum <g, d>). For methods that
    train inside a subspace this is the step that SAM would take in the coordinates of the subspace.

    Args:
        parameters: Those with a gradient are moved.
        direction: Returns d for a parameter, in the shape of its gradient.
        rho: Length of the step.
    """
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    directions = [direction(parameter) for parameter in moved]
    gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
    products = [torch.sum(g * d) for g, d in zip(gradients, directions, strict=True)]
    norm = torch.stack(products).sum().clamp(min=0).sqrt()
    # Copies, not subtraction: the way back must be exact to the bit.
    originals = [parameter.detach().clone() for parameter in moved]
    with torch.no_grad():
        for parameter, d in zip(moved, directions, strict=True):
            parameter.add_(d * (rho / (norm + _TINY)))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, original in zip(moved, originals, strict=True):
                parameter.copy_(original)
