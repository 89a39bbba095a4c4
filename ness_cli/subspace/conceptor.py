"""Conceptors: soft projections onto the directions that some inputs use, and their logic.

Of inputs with second moment R = X^T X / n = U diag(r) U^T the conceptor of aperture a is

    C = R (R + a^-2 I)^-1 = U diag(r / (r + a^-2)) U^T,

with not C = I - C, C or D = not (not C and not D), and, within what both C and D reach,
C and D = (C^+ + D^+ - I)^-1. It is kept by the directions that it reaches, and everything is done
within the span of those: outside it C is 0, and so are C and D, and C or D.

Source: Jaeger, "Controlling Recurrent Neural Networks by Conceptors", 2014; the clamps and the
growth of the aperture are those of CODE-CL (Apolinario et al., ICCV 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from ness_cli.numerics import in_float64

_RANGE = 1e-6  # what has less counts as out of reach
_LOWEST, _HIGHEST = 1e-8, 0.9999999
_GROWTH, _AT_A_TIME = 1.1, 32


@dataclass(frozen=True)
class Conceptor:
    """A conceptor C = U diag(c) U^T.

    Attributes:
        columns: U, orthonormal, ``[d, k]`` float64.
        values: c, ``[k]`` float64 in (0, 1), descending.
    """

    columns: torch.Tensor
    values: torch.Tensor

    def above(self, lowest: float) -> Conceptor:
        """Return the conceptor with values below ``lowest`` set to zero."""
        kept = self.values >= lowest
        return Conceptor(self.columns[:, kept], self.values[kept])

    def stored(self) -> Conceptor:
        """Return the conceptor as it comes back from a file of float32."""
        return Conceptor(self.columns.float().double(), self.values.float().double())

    def within(self, basis: torch.Tensor) -> torch.Tensor:
        """Return Z^T C Z, ``[m, m]``, for a basis Z ``[d, m]``."""
        inside = basis.T @ self.columns
        found: torch.Tensor = (inside * self.values) @ inside.T
        return found


def fitted(
    columns: torch.Tensor,
    moments: torch.Tensor,
    rows: Callable[[], Iterable[torch.Tensor]],
    *,
    aperture: float,
    share: float,
) -> tuple[Conceptor, float]:
    """Return the conceptor of some inputs, its aperture grown until it keeps enough of them.

    The aperture is multiplied by 1.1 until sum ||C x|| / sum ||x|| reaches ``share``.

    Args:
        columns: U, all directions of the inputs, ``[d, d]`` float64.
        moments: r, ``[d]`` float64, never negative, and zero where the inputs use nothing.
        rows: Gives the inputs x, ``[m, d]`` at a time, as often as asked.
        aperture: Where it starts.
        share: A fraction below 1.

    Returns:
        The conceptor and its aperture; one without directions for inputs that are all zero.
    """
    used = moments > 0
    columns, moments = columns[:, used].flip(1), moments[used].flip(0)
    start = 0
    while len(moments):
        apertures = aperture * _GROWTH ** torch.arange(start, start + _AT_A_TIME).double()
        values = moments / (moments + apertures[:, None] ** -2)
        kept, total = torch.zeros_like(apertures), 0.0
        for part in rows():
            squares = (in_float64(part).cpu() @ columns).square()
            kept += (squares @ values.square().T).sqrt().sum(dim=0)
            total += float(squares.sum(dim=1).sqrt().sum())
        enough = torch.nonzero(kept >= share * total)
        if len(enough):
            index = int(enough[0])
            return Conceptor(columns, values[index].clamp(_LOWEST, _HIGHEST)), float(
                apertures[index]
            )
        start += _AT_A_TIME
    return Conceptor(columns, moments), aperture


def either(a: Conceptor, b: Conceptor) -> Conceptor:
    """Return A or B, what one of them or both reach; O(d (j + k)^2)."""
    basis = _joint_basis(a, b)
    eye = torch.eye(basis.shape[1], dtype=torch.float64)
    found = eye - _and(eye - a.within(basis), eye - b.within(basis))
    return _of_matrix(basis, found)


def both(a: Conceptor, b: Conceptor) -> Conceptor:
    """Return A and B, what both of them reach; O(d (j + k)^2)."""
    basis = _joint_basis(a, b)
    found = _of_matrix(basis, _and(a.within(basis), b.within(basis)))
    return found.above(_RANGE)


def overlap(shared: Conceptor, whole: Conceptor) -> float:
    """Return the sum of the values of A and B over that of A; 0 if A reaches nothing.

    Args:
        shared: A and B, as of ``both``.
        whole: A.
    """
    total = float(whole.values.sum())
    return float(shared.values.sum()) / total if total > 0 else 0.0


def _joint_basis(a: Conceptor, b: Conceptor) -> torch.Tensor:
    """Return an orthonormal basis of what A and B reach together, ``[d, m]``."""
    both_columns = torch.cat([a.columns, b.columns], dim=1)
    u, s, _ = torch.linalg.svd(both_columns, full_matrices=False)
    reached: torch.Tensor = u[:, s > _RANGE]
    return reached


def _of_matrix(basis: torch.Tensor, matrix: torch.Tensor) -> Conceptor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return Conceptor(basis @ vectors.flip(1), values.flip(0).clamp(_LOWEST, _HIGHEST))


def _and(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return A and B of dense matrices ``[m, m]``, with eigenvalues in [1e-8, 0.9999999]."""
    parts = [torch.linalg.eigh((x + x.T) / 2) for x in (a, b)]
    out_of_reach, inverses = torch.zeros_like(a), torch.zeros_like(a)
    for values, vectors in parts:
        kept = values > _RANGE
        out_of_reach += vectors[:, ~kept] @ vectors[:, ~kept].T
        inverses += (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    values, vectors = torch.linalg.eigh(out_of_reach)
    common = vectors[:, values <= _RANGE]
    inside = common.T @ inverses @ common - torch.eye(common.shape[1], dtype=a.dtype)
    inside = torch.linalg.inv(inside)
    values, vectors = torch.linalg.eigh(common @ (inside + inside.T) @ common.T / 2)
    found: torch.Tensor = (vectors * values.clamp(_LOWEST, _HIGHEST)) @ vectors.T
    return found
