"""W = W_prev + (U V)^T as a parametrisation of a layer's weight, with V trained and U fixed.

Needed where the optimiser is not rotation invariant (Adam), and as the plain form that the
projected one is tested against.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from ness_cli import numerics
from ness_cli.subspace.layer_view import LayerView


class FactoredUpdate(nn.Module):
    """Adds the rows of (U V)^T that belong to one parameter of a layer.

    Args:
        basis: Those rows of U, ``[d, r]`` float32 for a weight, ``[1, r]`` for a bias.
        coefficients: V, ``[r, out]`` float32, which weight and bias share.
    """

    basis: torch.Tensor

    def __init__(self, basis: torch.Tensor, coefficients: nn.Parameter) -> None:
        super().__init__()
        self.register_buffer("basis", basis, persistent=False)
        self.coefficients = coefficients

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Return ``value``, W_prev or b_prev, with its part of (U V)^T added."""
        with numerics.full_float32(value.device):
            return value + (self.basis @ self.coefficients).T.reshape(value.shape)


def attach(layer: LayerView, basis: torch.Tensor) -> nn.Parameter:
    """Put a zero update on a layer and return V, ``[r, out]``; what it adds to is frozen."""
    coefficients = nn.Parameter(
        torch.zeros(basis.shape[1], layer.out, device=basis.device, dtype=basis.dtype)
    )
    parameters = layer.parameters
    rows = {"weight": basis[:-1], "bias": basis[-1:]} if "bias" in parameters else {"weight": basis}
    for name, parameter in parameters.items():
        parameter.requires_grad_(False)
        update = FactoredUpdate(rows[name], coefficients)
        parametrize.register_parametrization(layer.module, name, update)
    return coefficients


def detach(layer: LayerView) -> None:
    """Take the update off a layer; its weight is W_prev again."""
    for name in ("weight", "bias") if layer.has_bias_column else ("weight",):
        parametrize.remove_parametrizations(layer.module, name, leave_parametrized=False)
