"""Projection of gradients onto a subspace of a layer's input space.

For SGD with momentum, weight decay and SAM, training V in W = W_prev + (U V)^T is exactly training
the dense weight with its gradient projected onto span(U) and decay pulling toward W_prev: every
term is linear, and V -> (U V)^T is an isometry onto its range. A step then costs what plain
training costs plus two thin products. Directions may be slowed instead of closed: W = W_prev +
(U S V)^T with a diagonal S makes of the gradient G U S^2 U^T.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext

import torch

from ness_cli.numerics import full_float32


class Projector:
    """What a subspace makes of the rows of a gradient ``[n, d]``: G C w C^T, or G - G C w C^T.

    At most 2 n d k multiply-adds, k the columns of C: give it the thinner side.

    Args:
        columns: C, orthonormal, ``[d, k]`` float32.
        weights: w, in [0, 1], ``[k]``; ones when ``None``.
        is_complement: Take the product off G instead of keeping nothing but it.

    Attributes:
        dim: Width ``d`` of a row.
        rank: Directions that are not closed.
        weights: w, or ``None`` if all are 1.
    """

    def __init__(
        self,
        columns: torch.Tensor,
        weights: torch.Tensor | None = None,
        *,
        is_complement: bool = False,
    ) -> None:
        self.dim, num_columns = columns.shape
        self.columns = columns
        num_slowed = 0 if weights is None else int((weights < 1).sum())
        self.weights = weights if num_slowed else None
        self.is_complement = is_complement
        self.rank = self.dim - num_columns + num_slowed if is_complement else num_columns

    @classmethod
    def off(
        cls,
        outside: torch.Tensor,
        importance: torch.Tensor | None = None,
        rest: torch.Tensor | None = None,
    ) -> Projector:
        """Return G -> G - G M diag(importance) M^T, the projection off the columns of M.

        Args:
            outside: M, orthonormal columns, ``[d, k]`` float32.
            importance: What part of a step along each column is taken off, in [0, 1], ``[k]``; ones
                when ``None``.
            rest: Orthonormal columns that complete M, ``[d, d - k]``, if they are at hand: the
                same product is made from them and the slowed columns of M where those are fewer.
        """
        importance = outside.new_ones(outside.shape[1]) if importance is None else importance
        slowed = importance < 1
        if rest is None or rest.shape[1] + int(slowed.sum()) >= outside.shape[1]:
            return cls(outside, importance, is_complement=True)
        columns = torch.cat([rest, outside[:, slowed]], dim=1).contiguous()
        return cls(columns, torch.cat([rest.new_ones(rest.shape[1]), 1 - importance[slowed]]))

    @property
    def is_identity(self) -> bool:
        """Whether it leaves every gradient as it is."""
        return self.is_complement and self.columns.shape[1] == 0

    @property
    def is_idempotent(self) -> bool:
        """Whether applying it twice is applying it once: no direction is slowed."""
        return self.weights is None

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the projection of rows ``[n, d]``, as of a gradient; they are left alone."""
        if self.columns.shape[1] == 0:
            return rows.clone() if self.is_complement else torch.zeros_like(rows)
        with full_float32(rows.device):
            inner = self._inner(rows)
            if self.is_complement:
                return torch.addmm(rows, inner, self.columns.T, alpha=-1)
            return inner @ self.columns.T

    def project_(self, rows: torch.Tensor) -> torch.Tensor:
        """Project rows ``[n, d]`` in place and return them."""
        project_all_([(self, rows)])
        return rows

    def project_as_is_(self, rows: torch.Tensor) -> None:
        """Project rows in place, in the precision that the process is in: see ``project_all_``."""
        if self.columns.shape[1] == 0:
            if not self.is_complement:
                rows.zero_()
            return
        inner = self._inner(rows)
        if self.is_complement:
            rows.addmm_(inner, self.columns.T, alpha=-1)
        else:
            torch.mm(inner, self.columns.T, out=rows)

    def _inner(self, rows: torch.Tensor) -> torch.Tensor:
        inner = rows @ self.columns
        return inner if self.weights is None else inner.mul_(self.weights)


def project_all_(parts: Iterable[tuple[Projector, torch.Tensor]]) -> None:
    """Project the rows ``[n, d]`` of several layers in place, in float32 in any case."""
    pairs = list(parts)
    with full_float32(pairs[0][1].device) if pairs else nullcontext():
        for projector, rows in pairs:
            projector.project_as_is_(rows)
