"""Matrices with orthonormal columns (the Stiefel manifold), and such that keep off a subspace.

Y is ``[n, r]`` with Y^T Y = I. What moves it to first order within the manifold, its tangent
vectors T, are those with Y^T T antisymmetric. If F has orthonormal columns and F^T Y = 0, tangent
vectors with F^T T = 0 keep it off F too.
"""

from __future__ import annotations

import torch

_NEGLIGIBLE = 1e-6  # of the largest singular value: directions of less are those of rounding


def riemannian_gradient(y: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return G - Y G^T Y, the gradient in the canonical metric (Edelman et al. 1998, Eq. 2.53).

    Args:
        y: Y, ``[n, r]``.
        gradient: G, the Euclidean gradient, ``[n, r]``.
    """
    return gradient - y @ (gradient.T @ y)


def tangent(y: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Return the tangent vector nearest to a step D, D - Y sym(Y^T D); ``[n, r]``."""
    inner = y.T @ step
    return step - y @ ((inner + inner.T) / 2)


def off(closed: torch.Tensor | None, columns: torch.Tensor) -> torch.Tensor:
    """Return columns ``[n, r]`` without their components along F, ``[n, p]`` orthonormal."""
    return columns if closed is None else columns - closed @ (closed.T @ columns)


def nearest_orthonormal(columns: torch.Tensor) -> torch.Tensor:
    """Return the nearest matrix with orthonormal columns, M (M^T M)^-1/2, in M's dtype.

    It is the polar factor of M, ``[n, r]``. Of a point plus a tangent vector M^T M = I + T^T T is
    never singular. The small matrix is decomposed in float64 on the CPU; O(n r^2) time.
    """
    gram = (columns.T @ columns).cpu().double()
    values, vectors = torch.linalg.eigh(gram)
    root: torch.Tensor = vectors @ (values.rsqrt()[:, None] * vectors.T)
    return columns @ root.to(columns)


@torch.no_grad()
def leading_factors(
    gradient: torch.Tensor, closed: torch.Tensor | None, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the leading singular directions of a gradient G off a subspace.

    Where G has fewer than ``rank``, any others off the subspace complete them. In float64; O(d^3)
    time at most.

    Args:
        gradient: G, ``[out, d]``.
        closed: F, orthonormal columns, ``[d, p]``, or ``None``.
        rank: r, at most min(out, d - p).

    Returns:
        Orthonormal columns ``[out, r]`` and ``[d, r]``, float64 on the CPU; F^T of the second is 0.
    """
    x = gradient.cpu().double().T
    f = x.new_zeros(len(x), 0)
    if closed is not None:
        f = torch.linalg.qr(closed.cpu().double()).Q  # stored in float32
    u, sigma, v = torch.linalg.svd(off(f, x), full_matrices=False)
    num_used = int((sigma[:rank] > _NEGLIGIBLE * sigma[0]).sum())
    right = off(f, u[:, :num_used])
    if num_used < rank:
        everything = torch.linalg.qr(torch.cat([f, right], dim=1), mode="complete").Q
        start = f.shape[1] + num_used
        right = torch.cat([right, everything[:, start : start + rank - num_used]], dim=1)
    return v[:rank].T.contiguous(), right.contiguous()
