"""Projection of gradients onto a subspace of a layer's input space, and the update it leaves.

For SGD with momentum, weight decay and SAM, training V in W = W_prev + (U V)^T is exactly training
the dense weight with its gradient projected onto span(U) and decay pulling toward W_prev: every
term is linear, and V -> (U V)^T is an isometry onto its range. A step then costs what plain
training costs plus two thin products. Directions may be slowed instead of closed: W = W_prev +
(U S V)^T with a diagonal S makes of the gradient G U S^2 U^T.
"""

from __future__ import annotations

import torch

from ness_cli.numerics import full_float32


class Projector:
    """What a subspace makes of the rows of a gradient ``[n, d]``: G P with P = U S^2 U^T.

    With all scales 1 it is the orthogonal projection onto span(U). It is computed from the columns
    of U, or as G - (G Q) diag(1 - s^2) Q^T from the directions Q that are slowed or closed,
    whichever are fewer: at most 2 n d min(r, k) multiply-adds, k the columns of Q.

    Args:
        inside: U, orthonormal basis of the subspace, ``[d, r]`` float32.
        scale: S, factor of each direction in (0, 1], ``[r]``; ones when ``None``.
    """

    def __init__(self, inside: torch.Tensor, scale: torch.Tensor | None = None) -> None:
        dim, rank = inside.shape
        self.dim, self.rank = dim, rank
        slowed = None if scale is None else scale < 1
        num_slowed = 0 if slowed is None else int(slowed.sum())
        self.is_complement = rank > dim - rank + num_slowed
        self.weights: torch.Tensor | None = None
        if not self.is_complement:
            self.columns = inside
            if num_slowed and scale is not None:
                self.weights = scale.square()
            return
        self.columns = complement(inside)
        if num_slowed and scale is not None and slowed is not None:
            self.columns = torch.cat([self.columns, inside[:, slowed]], dim=1).contiguous()
            closed = torch.ones(dim - rank, dtype=scale.dtype, device=scale.device)
            self.weights = torch.cat([closed, 1 - scale[slowed].square()])

    @classmethod
    def off(cls, outside: torch.Tensor, importance: torch.Tensor | None = None) -> Projector:
        """Return G -> G - G M diag(importance) M^T, the projection off the columns of M.

        Args:
            outside: M, orthonormal columns, ``[d, k]`` float32.
            importance: Share of a step along each column that is taken off, in [0, 1], ``[k]``;
                ones when ``None``.
        """
        projector = cls.__new__(cls)
        dim, num_columns = outside.shape
        slowed = None if importance is None else importance < 1
        num_slowed = 0 if slowed is None else int(slowed.sum())
        projector.dim, projector.rank = dim, dim - num_columns + num_slowed
        projector.is_complement = num_columns <= projector.rank
        projector.weights = None
        if projector.is_complement:
            projector.columns = outside
            if num_slowed:
                projector.weights = importance
            return projector
        projector.columns = complement(outside)
        if num_slowed and importance is not None and slowed is not None:
            free = torch.ones(dim - num_columns, dtype=outside.dtype, device=outside.device)
            projector.columns = torch.cat([projector.columns, outside[:, slowed]], 1).contiguous()
            projector.weights = torch.cat([free, 1 - importance[slowed]])
        return projector

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
        if self.columns.shape[1] == 0:
            return rows if self.is_complement else rows.zero_()
        with full_float32(rows.device):
            inner = self._inner(rows)
            if self.is_complement:
                return rows.addmm_(inner, self.columns.T, alpha=-1)
            return torch.mm(inner, self.columns.T, out=rows)

    def _inner(self, rows: torch.Tensor) -> torch.Tensor:
        inner = rows @ self.columns
        return inner if self.weights is None else inner.mul_(self.weights)


@torch.no_grad()
def complement(basis: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis of the complement of ``basis``.

    Args:
        basis: Orthonormal columns, ``[d, r]``.

    Returns:
        ``[d, d - r]`` in the dtype and on the device of ``basis``; computed in float64 on the CPU,
        so that every device starts from the same numbers. O(d^3).
    """
    dim, rank = basis.shape
    if rank == 0:
        return torch.eye(dim, dtype=basis.dtype, device=basis.device)
    full, _ = torch.linalg.qr(basis.detach().cpu().double(), mode="complete")
    rest: torch.Tensor = full[:, rank:].to(basis.device, basis.dtype).contiguous()
    return rest


@torch.no_grad()
def coefficients(
    change: torch.Tensor, basis: torch.Tensor, scale: torch.Tensor | None = None
) -> torch.Tensor:
    """Return V with (U S V)^T = the part of a weight change inside span(U).

    Args:
        change: W - W_prev, ``[out, d]``.
        basis: U, ``[d, r]``.
        scale: S, ``[r]``; ones when ``None``.

    Returns:
        V, ``[r, out]`` float32.
    """
    inside = basis.double().T @ change.double().T
    return (inside if scale is None else inside / scale.double()[:, None]).float()


@torch.no_grad()
def recompose(
    previous: torch.Tensor,
    basis: torch.Tensor,
    coefficients: torch.Tensor,
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return W = W_prev + (U S V)^T (NESS 2026, Eq. 6).

    Args:
        previous: W_prev, ``[out, d]`` float32.
        basis: U, ``[d, r]`` float32.
        coefficients: V, ``[r, out]`` float32.
        scale: S, ``[r]`` float32; ones when ``None``.

    Returns:
        ``[out, d]`` float32; the sum is made in float64 and rounded once, so that whoever repeats
        it from the files gets the same bits.
    """
    columns = basis.double() if scale is None else basis.double() * scale.double()
    return (previous.double() + (columns @ coefficients.double()).T).float()
