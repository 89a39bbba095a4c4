"""Self-attention whose projections are ordinary layers.

``nn.MultiheadAttention`` keeps its in-projection as a raw parameter and uses the weight of its
``out_proj`` without calling it: hooks on them never fire, and their inputs cannot be seen. Here
both are Linear layers that see the very inputs that their weights multiply.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ness_cli.errors import SettingsError


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017), in place of ``nn.MultiheadAttention``.

    Args:
        width: Width of the input and the output.
        num_heads: Number of heads; it divides ``width``.
        dropout: Probability of dropping an attention weight in training.
        has_bias: Whether the projections have biases.
    """

    def __init__(self, width: int, num_heads: int, *, dropout: float, has_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj = nn.Linear(width, 3 * width, bias=has_bias)
        self.out_proj = nn.Linear(width, width, bias=has_bias)

    @classmethod
    def like(cls, module: nn.MultiheadAttention, *, name: str) -> SelfAttention:
        """Return attention with the weights of torch's module.

        Raises:
            SettingsError: If it does what this class does not; the message has its ``name``.
        """
        if module.in_proj_weight is None or not module.batch_first:
            raise SettingsError(
                f"layer {name}: attention over keys and values of other widths, or with the batch"
                " second, is not supported",
                "choose another net.model",
            )
        if module.bias_k is not None or module.add_zero_attn:
            raise SettingsError(
                f"layer {name}: attention with added keys is not supported",
                "choose another net.model",
            )
        has_bias = module.in_proj_bias is not None
        own = cls(module.embed_dim, module.num_heads, dropout=module.dropout, has_bias=has_bias)
        own.to(module.in_proj_weight)
        with torch.no_grad():
            own.in_proj.weight.copy_(module.in_proj_weight)
            own.out_proj.weight.copy_(module.out_proj.weight)
            if has_bias:
                own.in_proj.bias.copy_(module.in_proj_bias)
                own.out_proj.bias.copy_(module.out_proj.bias)
        return own

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool = False,
    ) -> tuple[torch.Tensor, None]:
        """Attend.

        Args:
            query: ``[n, length, width]``.
            key: The same tensor.
            value: The same tensor.
            need_weights: Must be false; there for the signature of torch's module.

        Returns:
            ``[n, length, width]``, and nothing in place of the weights.

        Raises:
            SettingsError: If keys or values are not the queries, or weights are asked for.
        """
        if key is not query or value is not query or need_weights:
            raise SettingsError(
                "net.model: only self-attention without its weights is supported",
                "choose another net.model",
            )
        n, length, width = query.shape
        parts = self.in_proj(query).view(n, length, 3, self.num_heads, width // self.num_heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0
        )
        return self.out_proj(mixed.transpose(1, 2).reshape(n, length, width)), None
