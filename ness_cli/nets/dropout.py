"""Dropout that draws four activations from one random number.

torch's own draws one 64-bit number per activation on a CPU, one after another; on an AlexNet that
is a third of a training step. Here every number is cut into four of 16 bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

_LANES = 4  # 16-bit numbers in a draw of 64 bits
_VALUES = 2**16


class Dropout(nn.Module):
    """Zero activations at random in training and scale the others by 1 / (1 - p).

    On a CPU it draws from torch's default generator as described above; elsewhere, and inside
    ``torch.compile``, it is torch's own.

    Args:
        p: Probability that an activation is dropped, in [0, 1].

    Source: Srivastava et al., "Dropout", JMLR 2014.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def extra_repr(self) -> str:
        """Return the probability, as torch's own does."""
        return f"p={self.p}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``, any shape, with activations dropped if in training mode."""
        if not self.training or self.p == 0:
            return x
        has_lanes = x.device.type == "cpu" and self.p * _VALUES < _VALUES - 1
        if not has_lanes or torch.compiler.is_compiling():
            return functional.dropout(x, self.p)
        mask = keep_mask(x, self.p)
        y: torch.Tensor = _Masked.apply(x, mask, 1 / (1 - self.p))  # type: ignore[no-untyped-call]
        return y


def keep_mask(x: torch.Tensor, p: float) -> torch.Tensor:
    """Return which activations stay, a bool for each, true with probability 1 - p.

    Sixteen bits do not hold every p, so the number of values that mean "drop" is rounded up or
    down at random, once for all activations: the probability of each is p exactly.

    Args:
        x: Activations, any shape; the mask lies in memory as they do.
        p: Probability of dropping one, below 1 - 2^-16.
    """
    num_dropping = int(p * _VALUES + float(torch.rand((), dtype=torch.float64)))
    draws = torch.empty(-(-x.numel() // _LANES), dtype=torch.int64)
    draws.random_(-(2**63), None)  # the whole range: every bit is random
    mask = draws.view(torch.int16)[: x.numel()] >= num_dropping - _VALUES // 2
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return mask.as_strided(x.shape, x.stride())
    return mask.view(x.shape)


class _Masked(torch.autograd.Function):
    # Keeps one byte per activation for the way back, where a product would keep four.

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return (x * scale).mul_(mask)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return (dy * ctx.scale).mul_(mask), None, None
