"""Orthogonal weights modification (Zeng et al. 2019): step off the mean inputs of all batches."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ness_cli.settings.methods.base_sgd import SgdOptions

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Options(SgdOptions):
    """Options of the method ``owm``."""

    alpha: Positive | Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)] = 1.0
    """Regulariser of the recursion at the start of every task: the smaller, the more completely a
    batch's inputs are closed. One for all layers, or a list in layer order."""
    alpha_decay: (
        NotNegative | Annotated[tuple[NotNegative, ...], Field(strict=False, min_length=1)] | None
    ) = None
    """Powers of ten by which alpha falls in the course of a task, one for all layers, or a list in
    layer order. As published when absent: 5 for convolutions, 4 for the first linear layer after
    them, 2 for further ones, 1 for a shared head, and 0 in networks without convolutions."""
    window_step: int = Field(default=2, ge=1)
    """Of the positions of a convolution's kernel, every such one in both directions gives a row;
    the authors' code takes every second."""

    def keeps(self) -> str:
        """Return the projectors."""
        return "a d x d projector per layer"
