"""W = W_prev + (U V)^T as a parametrisation of a layer's weight, with V trained and U fixed.

Needed where the optimiser is not rotation invariant (Adam), and as the plain form that the
projected one is tested against.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from ness_cli.subspace.layer_view import LayerView


class FactoredUpdate(nn.Module):
    """Adds (U V)^T to a weight.

    Args:
        basis: U, ``[d, r]`` float32.
        out: Number of outputs of the layer.
    """

    basis: torch.Tensor

    def __init__(self, basis: torch.Tensor, out: int) -> None:
        super().__init__()
        self.register_buffer("basis", basis, persistent=False)
        self.coefficients = nn.Parameter(
            torch.zeros(basis.shape[1], out, device=basis.device, dtype=basis.dtype)
        )

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return W_prev + (U V)^T in the shape of ``weight``."""
        return weight + (self.basis @ self.coefficients).T.reshape(weight.shape)


def attach(layer: LayerView, basis: torch.Tensor) -> FactoredUpdate:
    """Put a zero update on a layer and return it; the weight itself is frozen."""
    update = FactoredUpdate(basis, layer.out)
    layer.weight.requires_grad_(False)
    parametrize.register_parametrization(layer.module, "weight", update)
    return update


def detach(layer: LayerView) -> None:
    """Take the update off a layer; its weight is W_prev again."""
    parametrize.remove_parametrizations(layer.module, "weight", leave_parametrized=False)
