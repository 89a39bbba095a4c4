"""The constraint itself: how far an update may move a layer's outputs on earlier inputs.

For the inputs x that a covariance C = sum x x^T was summed over,

    sum ||dW x||^2 = tr(dW C dW^T) = sum_i sigma_i^2 ||dW u_i||^2,

an equality that needs no data. Relative to what the layer put out before,

    rho^2 = tr(dW C dW^T) / tr(W_prev C W_prev^T),

the root-mean-square relative change of its outputs. The updates with rho <= b are an ellipsoid, and
the nearest point of it has a closed form with a single scalar.

Source: Eq. 3 of NESS 2026 (Pham, Vepakomma, Horvath), with the mean over earlier inputs in place of
the largest; the paper relaxes it to a subspace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import brentq

from ness_cli.numerics import in_float64

_MARGIN = 1e-6  # rounding the result to float32 must not exceed the budget


@torch.no_grad()
def output_energy(matrix: torch.Tensor, covariance: torch.Tensor) -> float:
    """Return the sum of ||M x||^2 over the inputs that a covariance holds.

    Args:
        matrix: M, ``[out, d]``.
        covariance: C, ``[d, d]`` float64, or ``[g, d, d]`` with one for each of g groups of rows.
    """
    groups = _by_group(matrix.double(), covariance)
    return math.fsum(float(torch.sum((m @ c) * m)) for m, c in groups)


def relative_change(
    change: torch.Tensor, previous: torch.Tensor, covariance: torch.Tensor
) -> float:
    """Return rho, the rms relative change of a layer's outputs on earlier inputs.

    Args:
        change: dW, ``[out, d]``.
        previous: W_prev, ``[out, d]``.
        covariance: C, as in ``output_energy``.

    Returns:
        A fraction; 0 without any change, infinite where outputs that were all zero change.
    """
    moved = max(0.0, output_energy(change, covariance))
    before = max(0.0, output_energy(previous, covariance))
    if moved == 0:
        return 0.0
    return math.sqrt(moved / before) if before > 0 else math.inf


def rho_of_update(before: torch.Tensor, after: torch.Tensor, covariance: torch.Tensor) -> float:
    """Return rho of the update from one matrix of a layer to another, as ``relative_change`` does.

    Args:
        before: W_prev, ``[out, d]``, on any device.
        after: W, ``[out, d]``, on any device.
        covariance: C on the CPU, as in ``output_energy``.
    """
    previous = before.detach().cpu().double()
    return relative_change(after.detach().cpu().double() - previous, previous, covariance)


def _by_group(
    matrix: torch.Tensor, covariance: torch.Tensor
) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
    covariances = covariance if covariance.dim() == 3 else covariance[None]
    return list(zip(matrix.chunk(len(covariances)), covariances, strict=True))


@dataclass(frozen=True)
class Directions:
    """The directions that some rows of an update may use, and what a step along each costs.

    Attributes:
        basis: Orthonormal columns in which the covariance is diagonal, ``[d, r]``.
        squares: Its diagonal there, sigma^2, ``[r]`` float64, never negative; 0 for directions
            that the inputs do not use.
    """

    basis: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of_eigenvectors(
        cls, basis: torch.Tensor, sigma: torch.Tensor, largest: float
    ) -> Directions:
        """Return the directions of a basis of eigenvectors.

        Args:
            basis: Eigenvectors of C, ``[d, r]``.
            sigma: Their singular values, ``[r]`` float64.
            largest: The largest of all inputs, also outside of the basis: what tells a singular
                value from rounding.
        """
        return cls(basis, _without_rounding(sigma.double().square(), len(basis), largest))

    @classmethod
    @torch.no_grad()
    def within(cls, basis: torch.Tensor, covariance: torch.Tensor, largest: float) -> Directions:
        """Return the directions of a subspace in which some other covariance is diagonal.

        What groups of a convolution need, which share a subspace and have inputs of their own.

        Args:
            basis: Orthonormal columns U, ``[d, r]``.
            covariance: C of some inputs, ``[d, d]``. O(r^3) time.
            largest: As in ``of_eigenvectors``, of the inputs of all groups.
        """
        basis = in_float64(basis)
        inside = basis.T @ covariance.to(basis) @ basis
        squares, vectors = torch.linalg.eigh((inside + inside.T) / 2)
        return cls(basis @ vectors, _without_rounding(squares.clamp(min=0), len(basis), largest))


def _without_rounding(squares: torch.Tensor, dim: int, largest: float) -> torch.Tensor:
    """Return eigenvalues with those that are nothing but rounding set to zero."""
    noise = dim * torch.finfo(torch.float64).eps * largest**2
    return torch.where(squares > noise, squares, torch.zeros_like(squares))


@torch.no_grad()
def nearest(change: torch.Tensor, directions: Sequence[Directions], allowed: float) -> torch.Tensor:
    """Return the update nearest to dW whose outputs on earlier inputs stay within a limit.

    With a_i = dW u_i it is a_i / (1 + nu sigma_i^2), nu the root of a decreasing function; nearest
    in the Frobenius norm. Directions that the inputs do not use are left alone whatever the limit.

    Args:
        change: dW, ``[out, d]``, inside the span of the directions. Products are made in its
            dtype: float64 keeps the limit to rounding, float32 to about a millionth.
        directions: Those of all rows, or of g groups of rows, one after another.
        allowed: Largest sum of ||dW x||^2 over the inputs: b^2 tr(W_prev C W_prev^T). A millionth
            less in rho is aimed at.

    Returns:
        ``[out, d]``; dW itself if it is within the limit. O(out d r).
    """
    rows = change.chunk(len(directions))
    bases = [own.basis.to(change) for own in directions]
    inner = [part @ basis for part, basis in zip(rows, bases, strict=True)]
    squares = torch.cat([own.squares for own in directions])
    lengths = torch.cat([in_float64(a).square().sum(dim=0) for a in inner])
    nu = multiplier(squares, lengths, allowed)
    if nu == 0:
        return change
    parts = []
    for part, a, basis, own in zip(rows, inner, bases, directions, strict=True):
        taken = _taken_off(own.squares, nu).to(change)
        parts.append(torch.addmm(part, a * taken, basis.T, alpha=-1))
    return torch.cat(parts)


def shrink_factors(squares: torch.Tensor, nu: float) -> torch.Tensor:
    """Return 1 / (1 + nu sigma^2), what every a_i is multiplied with, ``[r]`` float64."""
    return 1 - _taken_off(squares, nu)


def _taken_off(squares: torch.Tensor, nu: float) -> torch.Tensor:
    if math.isinf(nu):
        return (squares > 0).double()
    return nu * squares / (1 + nu * squares)


def multiplier(squares: torch.Tensor, lengths: torch.Tensor, allowed: float) -> float:
    """Return nu with sum_i s_i q_i / (1 + nu s_i)^2 = (1 - 1e-6)^2 allowed.

    Args:
        squares: s = sigma^2, ``[r]`` float64.
        lengths: q = ||a||^2, ``[r]`` float64.
        allowed: The limit.

    Returns:
        0 if the limit holds; infinity if it is 0, so that every used direction is closed.
    """
    squares, lengths = squares.cpu(), lengths.cpu()
    used = (squares > 0) & (lengths > 0)
    s, q = squares[used], lengths[used]
    total = float((s * q).sum())
    if total <= allowed:
        return 0.0
    if allowed <= 0:
        return math.inf
    goal = (1 - _MARGIN) ** 2 * allowed

    def excess(log_nu: float) -> float:
        return math.log(float((s * q / (1 + math.exp(log_nu) * s).square()).sum()) / goal)

    # (1 + nu s) lies between nu s and 1 + nu max(s): closed bounds on both sides.
    low = (math.sqrt(total / goal) - 1) / float(s.max())
    high = math.sqrt(float((q / s).sum()) / goal)
    if not low < high:
        return high
    low, high = math.log(low) - 1e-9, math.log(high) + 1e-9
    return math.exp(float(brentq(excess, low, high, xtol=1e-12, rtol=1e-12)))


@dataclass(frozen=True)
class LayerBudget:
    """How far the next update of a layer may move its outputs on earlier inputs.

    Attributes:
        directions: Those that the update may use, for each group of rows.
        covariance: C of the earlier inputs, ``[d, d]`` float64, or ``[g, d, d]`` by group.
        previous: W_prev, ``[out, d]``.
        limit: b, the largest rho of one task: a fraction.
        num_tasks: Over how many tasks the energy of the outputs is divided.
        energy: tr(W_prev C W_prev^T).
    """

    directions: tuple[Directions, ...]
    covariance: torch.Tensor
    previous: torch.Tensor
    limit: float
    num_tasks: int
    energy: float

    @property
    def allowed(self) -> float:
        """Largest sum of ||dW x||^2 over the inputs."""
        return self.limit**2 * self.energy / self.num_tasks

    @classmethod
    def of(
        cls,
        budget: float,
        directions: Sequence[Directions],
        covariance: torch.Tensor,
        previous: torch.Tensor,
        num_tasks: int,
    ) -> LayerBudget:
        """Return the budget of a layer.

        Args:
            budget: b, the largest rho: a fraction.
            directions: Those that the update may use.
            covariance: C of the earlier inputs.
            previous: W_prev, ``[out, d]``.
            num_tasks: The limit is b^2 tr(W_prev C W_prev^T) / num_tasks. With the number of
                earlier tasks every task of average energy keeps within b, since no task's own
                outputs can move by more than those of all together; with 1 the pool of all does.
        """
        previous = previous.detach().clone()
        energy = output_energy(previous.cpu(), covariance)
        return cls(tuple(directions), covariance, previous, budget, num_tasks, energy)

    def nearest(self, change: torch.Tensor) -> torch.Tensor:
        """Return the nearest update within the budget, see the function of that name."""
        return nearest(change, self.directions, self.allowed)

    def rho(self, weight: torch.Tensor) -> float:
        """Return the rms relative change of outputs on earlier inputs that W makes, a fraction."""
        return rho_of_update(self.previous, weight, self.covariance)
