"""W = diag(R) W_base diag(S) + P Q: a weight as another one, rescaled, and a low rank added.

R has an entry per output (channel), S per input (channel); P Q, ``[out, in]``, is added to a
convolution's kernel at every position alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ness_cli import numerics

FACTORS = ("P", "Q")
"""The pieces of low rank; the others are scales."""
_TINY = 1e-20


class LowRankPerturbation(nn.Module):
    """Makes W of W_base: a parametrisation of a layer's weight.

    Args:
        pieces: ``R`` ``[out]``, ``S`` ``[in]``, ``P`` ``[out, k]``, ``Q`` ``[k, in]``, float32.
    """

    def __init__(self, pieces: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        for name, value in pieces.items():
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, base: torch.Tensor) -> torch.Tensor:
        """Return W, in the shape of W_base."""
        with numerics.full_float32(base.device):
            return perturbed_weight(base, dict(self.named_parameters()))

    def penalties(self, *, decay: float, sparsity: float, scales_to: float) -> list[torch.Tensor]:
        """Return what large pieces cost, scalars to be added.

        Args:
            decay: Factor of half the sum of squares, of R and S as far as they are from a goal.
            sparsity: Factor of the sum of absolute values of P and Q.
            scales_to: The goal of R and S.
        """
        terms = []
        for name, piece in self.named_parameters():
            is_scale = name not in FACTORS
            from_goal = piece - scales_to if is_scale else piece
            terms.append(decay / 2 * from_goal.square().sum())
            if not is_scale:
                terms.append(sparsity * piece.abs().sum())
        return terms


def empty_pieces(shape: torch.Size, rank: int) -> dict[str, torch.Tensor]:
    """Return pieces of zeros for a weight of a shape, ``[out, in]`` or ``[out, in, kh, kw]``."""
    out, width = shape[:2]
    shapes = {"R": (out,), "S": (width,), "P": (out, rank), "Q": (rank, width)}
    return {name: torch.zeros(own) for name, own in shapes.items()}


def pruned(
    pieces: Mapping[str, Mapping[str, torch.Tensor]], fraction: float, *, below: float
) -> dict[str, dict[str, torch.Tensor]]:
    """Return pieces with the smallest entries of P and Q, of all layers together, zero.

    Args:
        pieces: By layer.
        fraction: Of the entries, which are pruned.
        below: Entries up to this size are in any case.
    """
    entries = torch.cat([own[kind].flatten() for own in pieces.values() for kind in FACTORS])
    smallest = max(below, quantile(entries.abs(), fraction))
    return {
        layer: {
            kind: torch.where(value.abs() <= smallest, 0, value) if kind in FACTORS else value
            for kind, value in own.items()
        }
        for layer, own in pieces.items()
    }


def perturbed_weight(base: torch.Tensor, pieces: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return diag(R) W_base diag(S) + P Q.

    Args:
        base: ``[out, in]`` or ``[out, in, kh, kw]``.
        pieces: As of ``LowRankPerturbation``.
    """
    kernel = [1] * (base.dim() - 2)
    rows, columns = pieces["R"].view(-1, 1, *kernel), pieces["S"].view(1, -1, *kernel)
    added = pieces["P"] @ pieces["Q"]
    return rows * base * columns + added.view(*added.shape, *kernel)


@dataclass(frozen=True)
class Rescaled:
    """What a weight is beside another one: R, S, and the singular directions of the rest.

    Attributes:
        rows: R, ``[out]`` float64.
        columns: S, ``[in]`` float64.
        u: Left singular vectors of W - diag(R) W_base diag(S), averaged over a kernel, ``[out, m]``
            float64, m the smaller side.
        sigma: Its singular values, ``[m]`` float64, descending.
        v: Its right singular vectors, ``[in, m]`` float64.
        positions: Positions in the kernel, at each of which the rest is added; 1 without one.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    u: torch.Tensor
    sigma: torch.Tensor
    v: torch.Tensor
    positions: int

    def pieces(self, rank: int) -> dict[str, torch.Tensor]:
        """Return R, S, P = U diag(root of sigma) and Q = diag(root of sigma) V^T, float32."""
        root = self.sigma[:rank].sqrt()
        found = {
            "R": self.rows,
            "S": self.columns,
            "P": self.u[:, :rank] * root,
            "Q": root[:, None] * self.v[:, :rank].T,
        }
        return {name: value.float().contiguous() for name, value in found.items()}


@torch.no_grad()
def rescaled(weight: torch.Tensor, base: torch.Tensor) -> Rescaled:
    """Fit diag(R) W_base diag(S) to W, rows first, then columns, and decompose what is left.

    Complexity: O(out in min(out, in)) time for the decomposition.

    Args:
        weight: W, ``[out, in]`` or ``[out, in, kh, kw]``.
        base: W_base, in the same shape.
    """
    w, b = (v.detach().cpu().double().reshape(*v.shape[:2], -1) for v in (weight, base))
    rows = (w * b).sum(dim=(1, 2)) / b.square().sum(dim=(1, 2)).clamp(min=_TINY)
    b = rows[:, None, None] * b
    columns = (w * b).sum(dim=(0, 2)) / b.square().sum(dim=(0, 2)).clamp(min=_TINY)
    rest = (w - b * columns[None, :, None]).mean(dim=2)
    u, sigma, vh = torch.linalg.svd(rest, full_matrices=False)
    return Rescaled(rows, columns, u, sigma, vh.T, w.shape[2])


def ranks_of(costs: Mapping[str, torch.Tensor], share: float) -> dict[str, int]:
    """Return how many directions of each layer are among the fewest that cost more than a share.

    Args:
        costs: What leaving out each direction would cost, by layer, ``[m]`` each, descending.
        share: Of the cost of all directions of all layers, a fraction. Where none costs anything,
            as in a task of one class, whose loss has no gradient, none is kept.
    """
    names = [name for name, own in costs.items() for _ in own]
    pooled = torch.cat(list(costs.values()))
    order = pooled.argsort(descending=True, stable=True)
    reached, total = pooled[order].cumsum(0), float(pooled.sum())
    num_kept = int((reached <= share * total).sum()) + 1 if total else 0
    kept = [names[int(index)] for index in order[:num_kept]]
    return {name: kept.count(name) for name in costs}


def quantile(values: torch.Tensor, fraction: float) -> float:
    """Return the largest of the values up to a quantile between two of them.

    Whatever is at most the interpolated quantile is at most this, which needs no interpolation and
    has no limit on their number.
    """
    position = math.floor(fraction * (len(values) - 1))
    return float(values.kthvalue(position + 1).values)
