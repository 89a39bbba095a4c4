"""A Linear layer whose weight gradient comes out projected, for the price of its input rows.

The gradient of y = x W^T is dW = dy^T x, so dW P = dy^T (x P). Projecting the n input rows costs
2 n d k multiply-adds, k columns of the projector, where projecting the gradient costs 2 out d k:
with a batch smaller than the layer is wide, a fraction: a thirty-second for AlexNet's linear layers
at batch 64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ness_cli.numerics import full_float32
from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.projection import Projector


class _Function(torch.autograd.Function):
    """y = x W^T + b, with dW (and db, if the bias is a column of the matrix) projected."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        rows: torch.Tensor,
        has_bias_column: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(weight, rows)
        ctx.dtype = x.dtype
        ctx.has_bias_column = has_bias_column
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, rows = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        # With autocast dy is bfloat16; what goes into the weights is summed in float32.
        dx = (dy @ weight.to(dy.dtype)).to(ctx.dtype) if needs_x else None
        flat = dy.reshape(-1, dy.shape[-1]).to(weight.dtype)
        if not ctx.has_bias_column:
            dw = _product(flat, rows) if needs_weight else None
            return dx, dw, flat.sum(0) if needs_bias else None, None, None
        gradient = _product(flat, rows)
        return dx, gradient[:, :-1].contiguous(), gradient[:, -1].clone(), None, None


def _product(dy: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return dy^T (x P), in float32 like the projection: what it rounds leaves the subspace."""
    with full_float32(dy.device):
        return dy.T @ rows


class ProjectedLinear:
    """Replaces the forward pass of a Linear layer while a task is being trained.

    Whether rows or gradient are projected is decided by shapes at the first forward pass: for full
    batches, so that a smaller last batch, or a task resumed at one, changes nothing. With a
    parametrisation f on the weight it is the gradient: rows are those of f(W), and projecting them
    does not project the gradient of W.

    Args:
        layer: View of a Linear layer.
        projector: Projection of its gradient.
        batch_size: Images in a full batch.

    Attributes:
        is_on: Whether it projects; a method that needs a whole gradient in between turns it off.
    """

    def __init__(self, layer: LayerView, projector: Projector, batch_size: int) -> None:
        self.layer = layer
        self.projector = projector
        self.batch_size = batch_size
        self.by_rows: bool | None = None
        self.is_on = True
        layer.module.forward = self.forward  # type: ignore[method-assign,assignment]

    def detach(self) -> None:
        """Give the layer its own forward pass back."""
        del self.layer.module.forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output; its gradient will be projected if rows are fewer."""
        module = self.layer.module
        if self.by_rows is None:
            is_fewer = self.batch_size * self.layer.rows_per_image(x) < self.layer.out
            self.by_rows = is_fewer and not self.layer.is_parametrised
        projects = self.by_rows and self.is_on
        if not (projects and torch.is_grad_enabled() and module.weight.requires_grad):
            return functional.linear(x, module.weight, module.bias)
        with torch.no_grad():
            rows = self.projector(self.layer.rows(x).to(module.weight.dtype))
        y: torch.Tensor = _Function.apply(  # type: ignore[no-untyped-call]
            x, module.weight, module.bias, rows, self.layer.has_bias_column
        )
        return y


def is_linear(layer: LayerView) -> bool:
    """Return whether a layer is a Linear one."""
    return isinstance(layer.module, nn.Linear)
