"""What an update does to a layer's outputs, measured on the inputs one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from rounding import gamma
from torch import nn
from torch.nn import functional

from ness_cli.subspace.layer_view import LayerView


class Measured(NamedTuple):
    """The rms relative change of a layer's outputs on its inputs.

    ``rounding`` is how far the value from a covariance may lie from it, relatively: where an update
    lies nearly all in directions that the inputs do not use, large terms cancel.
    """

    rho: float
    rounding: float


@torch.no_grad()
def measured_rho(
    view: LayerView, before: torch.Tensor, after: torch.Tensor, inputs: Sequence[torch.Tensor]
) -> Measured:
    """Return rho of an update, from what the layer itself puts out on every input.

    Args:
        view: The layer; stride, padding and groups are its own.
        before: W_prev, ``[out, d]``.
        after: W, ``[out, d]``.
        inputs: What went into the layer, in batches as it takes them.
    """
    change = after.double() - before.double()
    moved = sum(float(_outputs(view, change, x).square().sum()) for x in inputs)
    then = sum(float(_outputs(view, before.double(), x).square().sum()) for x in inputs)
    if not moved:
        return Measured(0.0, 0.0)
    squares = sum(float(view.rows(x.double()).square().sum()) for x in inputs)
    num_rows = sum(len(view.rows(x)) for x in inputs)
    # Higham, Eq. 3.13, for sum ||M x||^2 made from C and made from outputs: every product of
    # absolute values is at most ||M||_F ||x||.
    each = 2 * gamma(num_rows + 2 * view.dim + view.out)
    terms = [
        float(matrix.double().square().sum()) * squares / total
        for matrix, total in ((change, moved), (before, then))
    ]
    return Measured((moved / then) ** 0.5, each * sum(terms))


def _outputs(view: LayerView, matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return what the layer puts out with another matrix; a bias counts if it is a column."""
    module, x = view.module, x.double()
    weight, bias = matrix, None
    if view.has_bias_column:
        weight, bias = matrix[:, :-1], matrix[:, -1]
    if isinstance(module, nn.Linear):
        return functional.linear(x, weight, bias)
    weight = weight.reshape(module.weight.shape)
    how = (module.stride, module.padding, module.dilation, module.groups)
    return functional.conv2d(x, weight, bias, *how)
