"""Learnable tokens beside those of the image, in every attention block of a vision transformer.

Prompts are appended to the tokens before the block's first layer norm, take part in its attention,
and what attention makes of them is dropped (VPT-deep with prompts behind the tokens, Jia et al.,
ECCV 2022, as in Lu et al., NeurIPS 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ness_cli.errors import SettingsError
from ness_cli.settings.nets.base import NetSettings


@dataclass(frozen=True)
class AttentionBlock:
    """A block whose tokens ``[n, length, width]`` pass a layer norm and then self-attention.

    Attributes:
        name: Its name in the backbone.
        norm: The layer norm before attention.
        attention: Self-attention; its output, or the first of a tuple, is ``[n, length, width]``.
        in_proj: Its layer that makes queries, keys and values, ``[3 width, width]``, each head by
            head.
        num_heads: Number of heads.
    """

    name: str
    norm: nn.LayerNorm
    attention: nn.Module
    in_proj: nn.Linear
    num_heads: int

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.in_proj.in_features

    def queries_and_keys(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return queries and keys of tokens that passed the norm, ``[n, heads, length, own]``."""
        n, length, width = x.shape
        weight, bias = self.in_proj.weight[: 2 * width], self.in_proj.bias
        projected = functional.linear(x, weight, None if bias is None else bias[: 2 * width])
        parts = projected.view(n, length, 2, self.num_heads, width // self.num_heads)
        q, k = parts.permute(2, 0, 3, 1, 4)
        return q, k


class Prompts(nn.Module):
    """The prompts of a network, which are seen from now on.

    State dict keys: ``tokens.<position of the block>``, ``[count, width]``; drawn from U(-1, 1) by
    torch's default generator.

    Args:
        blocks: The blocks that get prompts.
        count: Prompts of each.
    """

    def __init__(self, blocks: Sequence[AttentionBlock], count: int) -> None:
        super().__init__()
        self.blocks = tuple(blocks)
        self.count = count
        self.tokens = nn.ParameterList(
            torch.empty(count, block.width).uniform_(-1, 1) for block in blocks
        )
        # Bound methods, which a copy of the network gets anew: its prompts are its own.
        for position, block in enumerate(self.blocks):
            block.norm.register_forward_pre_hook(partial(self._append, position))
            block.attention.register_forward_hook(self._drop)

    def _append(
        self, position: int, _norm: nn.Module, args: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor]:
        (x,) = args
        return (torch.cat([x, self.tokens[position].expand(x.shape[0], -1, -1)], dim=1),)

    def _drop(self, _attention: nn.Module, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return output[0][:, : -self.count], *output[1:]
        return output[:, : -self.count]


def make_prompts(blocks: Sequence[AttentionBlock], net: NetSettings) -> Prompts | None:
    """Return the prompts that ``net.prompts`` asks for, if it does.

    Raises:
        SettingsError: If the network has no block to put them into.
    """
    count, model = getattr(net, "prompts", 0), getattr(net, "model", net.name)
    if not count:
        return None
    if not blocks:
        raise SettingsError(
            f"net.prompts: {model} has no attention blocks that take prompts",
            "set net.prompts=0, or choose a vision transformer",
        )
    return Prompts(blocks, count)
