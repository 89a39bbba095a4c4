"""W + (W B) D B^T: a weight whose action on some directions B may change, while W itself may not.

TRGP learns D where W is confined to directions orthogonal to all B, so that K = W B is a constant
of the task, and the gradient of W is that of a plain weight. A convolution computes with the sum as
its weight; a Linear layer adds (x B) D^T K^T to its output, which for a batch smaller than the
layer is wide costs a fraction of making the weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize

from ness_cli import numerics
from ness_cli.subspace import factored
from ness_cli.subspace.layer_view import LayerView

_CHILD = "scaling"  # of a Linear layer, while a task is being trained


class Scaling(nn.Module):
    """K_s D_s B_s^T for several subspaces s, with D trained from zero.

    Args:
        matrix: W, ``[out, d]``.
        bases: B_s, orthonormal columns, ``[d, r_s]`` float32.
    """

    directions: torch.Tensor
    outputs: torch.Tensor

    def __init__(self, matrix: torch.Tensor, bases: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.widths = [basis.shape[1] for basis in bases]
        directions = torch.cat([*bases], dim=1)
        self.register_buffer("directions", directions, persistent=False)
        with numerics.full_float32(matrix.device):
            self.register_buffer("outputs", matrix @ directions, persistent=False)
        self.factors = nn.ParameterList(matrix.new_zeros(r, r) for r in self.widths)

    def of_outputs(self) -> torch.Tensor:
        """Return K D of all subspaces side by side, ``[out, sum of r_s]``."""
        parts = torch.split(self.outputs, self.widths, dim=1)
        return torch.cat([k @ d for k, d in zip(parts, self.factors, strict=True)], dim=1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what is added to the outputs of input rows ``[n, d]``, ``[n, out]``."""
        parts = torch.split(rows @ self.directions, self.widths, dim=1)
        inner = [part @ d.T for part, d in zip(parts, self.factors, strict=True)]
        return torch.cat(inner, dim=1) @ self.outputs.T


class _ScaledPart(nn.Module):
    """Adds the rows of the sum that belong to one parameter of a layer."""

    rows: torch.Tensor

    def __init__(self, scaling: Scaling, rows: torch.Tensor) -> None:
        super().__init__()
        self.scaling = scaling
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        with numerics.full_float32(value.device):
            added = self.scaling.of_outputs() @ self.rows.T
        return value + added.reshape(value.shape)


class ScaledLayer:
    """A layer with a scaling on it, until it is detached.

    Args:
        layer: The layer.
        bases: B_s, ``[d, r_s]`` float32, on the layer's device.
    """

    def __init__(self, layer: LayerView, bases: Sequence[torch.Tensor]) -> None:
        self.layer = layer
        self.scaling = Scaling(layer.matrix(), bases)
        module = layer.module
        if isinstance(module, nn.Linear):
            module.add_module(_CHILD, self.scaling)
            self._handle = module.register_forward_hook(self._add)
            return
        directions = self.scaling.directions
        rows = {"weight": directions}
        if layer.has_bias_column:
            rows = {"weight": directions[:-1], "bias": directions[-1:]}
        for name, own in rows.items():
            part = _ScaledPart(self.scaling, own)
            parametrize.register_parametrization(module, name, part)

    def _add(
        self, _: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor:
        added: torch.Tensor = self.scaling(self.layer.rows(inputs[0]))
        return output + added.view_as(output)

    def detach(self) -> None:
        """Take the scaling off; the layer computes with W again."""
        if isinstance(self.layer.module, nn.Linear):
            self._handle.remove()
            delattr(self.layer.module, _CHILD)
        else:
            factored.detach(self.layer)

    def factors(self) -> list[torch.Tensor]:
        """Return D of every subspace, ``[r_s, r_s]`` float32 on the CPU."""
        return [factor.detach().cpu().clone() for factor in self.scaling.factors]


@torch.no_grad()
def scaled_matrix(
    matrix: torch.Tensor, bases: Sequence[torch.Tensor], factors: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return W + sum of (W B) D B^T, ``[out, d]``.

    Args:
        matrix: W, ``[out, d]``.
        bases: B, ``[d, r]`` each.
        factors: D, ``[r, r]`` each.
    """
    with numerics.full_float32(matrix.device):
        pairs = zip(bases, factors, strict=True)
        return matrix + sum((matrix @ basis) @ factor @ basis.T for basis, factor in pairs)
