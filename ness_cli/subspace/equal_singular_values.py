"""W = W_prev + c s B A as a parametrisation of a layer's weight: all singular values are c |s|."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from ness_cli import numerics
from ness_cli.subspace.layer_view import LayerView


class EqualSingularValuesUpdate:
    """The update of one layer, while it is trained.

    Args:
        layer: The layer; what the update is added to is frozen.
        rank: r, the number of directions.
        factor: c.

    Attributes:
        left: B, ``[out, r]`` with orthonormal columns.
        right: A^T, ``[d, r]`` with orthonormal columns.
        scale: s, a scalar.
    """

    def __init__(self, layer: LayerView, rank: int, factor: float) -> None:
        self.layer, self.factor = layer, factor
        like = layer.weight.detach()
        self.left = nn.Parameter(like.new_zeros(layer.out, rank))
        self.right = nn.Parameter(like.new_zeros(layer.dim, rank))
        self.scale = nn.Parameter(like.new_zeros(()))
        columns = {"weight": slice(layer.dim - layer.has_bias_column), "bias": slice(-1, None)}
        for name, parameter in layer.parameters.items():
            parameter.requires_grad_(False)
            part = _Part(self, columns[name])
            parametrize.register_parametrization(layer.module, name, part)

    @torch.no_grad()
    def start_from(self, left: torch.Tensor, right: torch.Tensor, scale: float) -> None:
        """Give the factors values."""
        self.left.copy_(left)
        self.right.copy_(right)
        self.scale.fill_(scale)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return B ``[out, r]`` and A ``[r, d]`` float32, c s float64, on the CPU."""
        return {
            "B": self.left.detach().cpu().clone(),
            "A": self.right.detach().cpu().T.contiguous(),
            "s": self.factor * self.scale.detach().cpu().double(),
        }

    def detach(self) -> None:
        """Take the update off the layer; its weight is W_prev again."""
        for name in ("weight", "bias") if self.layer.has_bias_column else ("weight",):
            parametrize.remove_parametrizations(self.layer.module, name, leave_parametrized=False)


class _Part(nn.Module):
    """Adds those columns of the update that belong to one parameter."""

    def __init__(self, update: EqualSingularValuesUpdate, columns: slice) -> None:
        super().__init__()
        self.left, self.right, self.scale = update.left, update.right, update.scale
        self.factor, self.columns = update.factor, columns

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        with numerics.full_float32(value.device):
            own = (self.factor * self.scale * self.left) @ self.right[self.columns].T
            return value + own.reshape(value.shape)


@torch.no_grad()
def add_update(previous: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return W_prev + c s B A, ``[out, d]`` float32 on the CPU.

    Made in float64 and rounded once, so that whoever repeats it from the files gets the same bits.

    Args:
        previous: W_prev, ``[out, d]``, on any device.
        tensors: What ``EqualSingularValuesUpdate.tensors`` returns.
    """
    update = tensors["s"].double() * (tensors["B"].double() @ tensors["A"].double())
    return (previous.cpu().double() + update).float()
