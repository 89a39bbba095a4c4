"""Projection of gradients onto a subspace of a layer's input space, and the update it leaves.

For SGD with momentum, weight decay and SAM, training V in W = W_prev + (U V)^T is exactly training
the dense weight with its gradient projected onto span(U) and decay pulling toward W_prev: every
term is linear, and V -> (U V)^T is an isometry onto its range. A step then costs what plain
training costs plus two thin products.
"""

from __future__ import annotations

import torch


class Projector:
    """Orthogonal projection of the rows of a gradient ``[out, d]`` onto a subspace.

    The subspace is given by an orthonormal basis of itself or of its complement; whichever has
    fewer columns is used, so a projection costs at most 2 out d min(r, d - r) multiply-adds.

    Args:
        inside: Orthonormal basis of the subspace, ``[d, r]`` float32.
    """

    def __init__(self, inside: torch.Tensor) -> None:
        dim, rank = inside.shape
        self.dim, self.rank = dim, rank
        self.is_complement = rank > dim - rank
        self.columns = complement(inside) if self.is_complement else inside

    @classmethod
    def off(cls, outside: torch.Tensor) -> Projector:
        """Return the projection onto everything orthogonal to ``outside``, ``[d, k]``."""
        projector = cls.__new__(cls)
        dim, closed = outside.shape
        projector.dim, projector.rank = dim, dim - closed
        projector.is_complement = closed <= dim - closed
        projector.columns = outside if projector.is_complement else complement(outside)
        return projector

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the projection of rows ``[n, d]``, as of a gradient; they are left alone."""
        if self.columns.shape[1] == 0:
            return rows.clone() if self.is_complement else torch.zeros_like(rows)
        inner = rows @ self.columns
        if self.is_complement:
            return torch.addmm(rows, inner, self.columns.T, alpha=-1)
        return inner @ self.columns.T

    def project_(self, rows: torch.Tensor) -> torch.Tensor:
        """Project rows ``[n, d]`` in place and return them."""
        if self.columns.shape[1] == 0:
            return rows if self.is_complement else rows.zero_()
        inner = rows @ self.columns
        if self.is_complement:
            return rows.addmm_(inner, self.columns.T, alpha=-1)
        return torch.mm(inner, self.columns.T, out=rows)


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
def coefficients(change: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Return V with (U V)^T = the part of a weight change inside span(U).

    Args:
        change: W - W_prev, ``[out, d]``.
        basis: U, ``[d, r]``.

    Returns:
        V, ``[r, out]`` float32.
    """
    return (basis.double().T @ change.double().T).float()


@torch.no_grad()
def recompose(
    previous: torch.Tensor, basis: torch.Tensor, coefficients: torch.Tensor
) -> torch.Tensor:
    """Return W = W_prev + (U V)^T (NESS 2026, Eq. 6).

    Args:
        previous: W_prev, ``[out, d]`` float32.
        basis: U, ``[d, r]`` float32.
        coefficients: V, ``[r, out]`` float32.

    Returns:
        ``[out, d]`` float32; the sum is made in float64 and rounded once, so that whoever repeats
        it from the files gets the same bits.
    """
    return (previous.double() + (basis.double() @ coefficients.double()).T).float()
