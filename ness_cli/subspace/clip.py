"""Clipping of singular values: what turns the bound on an update into a promise."""

from __future__ import annotations

import torch


@torch.no_grad()
def spectral_norm(v: torch.Tensor) -> float:
    """Return ||V||_2, the largest singular value, from float64; 0 for a matrix without entries."""
    return float(torch.linalg.matrix_norm(v.cpu().double(), 2)) if v.numel() else 0.0


@torch.no_grad()
def clip_spectral_norm(v: torch.Tensor, limit: float) -> torch.Tensor:
    """Return V with all singular values above ``limit`` set to it (NESS 2026, Eq. 10).

    It is the nearest matrix, in the Frobenius norm, whose spectral norm is at most ``limit``.

    Args:
        v: ``[r, out]`` float32.
        limit: Largest singular value allowed; a millionth less is aimed at, so that rounding to
            float32 does not exceed it.

    Returns:
        ``[r, out]`` float32; V itself if nothing exceeds the limit. O(r out min(r, out)) time if
        something may.
    """
    if not v.numel() or float(torch.linalg.vector_norm(v.double())) <= limit:
        return v  # the Frobenius norm bounds the spectral one
    tall = v.double() if v.shape[0] >= v.shape[1] else v.double().T
    goal, is_clipped = limit * (1 - 1e-6), False
    while True:
        lengths, directions = torch.linalg.eigh(tall.T @ tall)
        sigma = lengths.clamp(min=0).sqrt()
        over = sigma > limit
        if not bool(over.any()):
            return v if not is_clipped else _shaped(tall, v)
        is_clipped = True
        kept = directions[:, over]
        tall = tall - (tall @ kept) * (1 - goal / sigma[over]) @ kept.T
        if float(sigma[-1]) < 1e6 * limit:
            return _shaped(tall, v)  # otherwise the Gram matrix has hidden smaller ones: again


def _shaped(tall: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    matrix = tall if like.shape[0] >= like.shape[1] else tall.T
    return matrix.to(like.dtype).contiguous()
