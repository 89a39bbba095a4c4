"""What an update of a layer is held to while it is learned: its budget, and its promise.

The update is the one that V stands for, W = W_prev + (S V)^T. The budget limits what it does to
outputs on earlier inputs in the mean (``subspace/budget.py``), the promise what it may do at worst,
through the largest singular value of V (``subspace/clip.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from ness_cli.subspace.basis import OpenBasis, SubspaceBasis
from ness_cli.subspace.budget import Directions, LayerBudget, multiplier, shrink_factors
from ness_cli.subspace.clip import clip_spectral_norm, spectral_norm


@dataclass(frozen=True)
class LayerLimits:
    """The limits of one layer's update.

    Attributes:
        basis: What the update is made of; open where there is a budget.
        budget: How far it may move outputs on earlier inputs; ``None`` for any way.
        norm: The largest ||V||_2 allowed; infinity where nothing is promised.
    """

    basis: SubspaceBasis
    budget: LayerBudget | None = None
    norm: float = math.inf

    @property
    def is_limited(self) -> bool:
        """Whether there is anything that the update is held to."""
        return self.budget is not None or not math.isinf(self.norm)

    def tightened(self, fraction: float) -> LayerLimits:
        """Return the limits with a fraction, at most 1, of the budget that there is."""
        assert self.budget is not None, "what has no budget has no fraction of one"
        return replace(self, budget=replace(self.budget, limit=fraction * self.budget.limit))

    def within(self, v: torch.Tensor) -> torch.Tensor:
        """Return V, ``[r, out]``, within budget and promise; V itself if it is."""
        near = self._within_budget(v)
        clipped = clip_spectral_norm(near, self.norm)
        if clipped is near or self.budget is None:
            return clipped
        # Clipping mixes outputs, and so the updates of groups; a factor for all of them does not.
        again = self._within_budget(clipped)
        norm = 0.0 if again is clipped else spectral_norm(again)
        return again if norm <= self.norm else again * ((1 - 1e-6) * self.norm / norm)

    def nearest(self, previous: torch.Tensor, change: torch.Tensor) -> torch.Tensor | None:
        """Return the weight with the nearest update within the limits, ``[out, d]``.

        Args:
            previous: W_prev, ``[out, d]``.
            change: dW, ``[out, d]``.

        Returns:
            ``None`` if dW is within them.
        """
        if math.isinf(self.norm):
            near = change if self.budget is None else self.budget.nearest(change)
            return None if near is change else previous + near
        v = self.basis.coefficients(change)
        kept = self.within(v)
        return None if kept is v else self.basis.recompose(previous, kept)

    def _within_budget(self, v: torch.Tensor) -> torch.Tensor:
        """Return the rows of V, ``[r, out]``, of the nearest update within the budget."""
        budget = self.budget
        if budget is None:
            return v
        basis = as_open(self.basis)
        if len(budget.directions) > 1:
            change = (basis.scaled.double() @ v.double()).T
            near = budget.nearest(change)
            return v if near is change else basis.coefficients(near).to(v)
        (own,) = budget.directions
        scaled = v.double() * basis.scale.double()[:, None]
        nu = multiplier(own.squares, scaled.square().sum(dim=1), budget.allowed)
        if nu == 0:
            return v
        return (v.double() * shrink_factors(own.squares, nu).to(scaled)[:, None]).to(v.dtype)


def directions_of(
    basis: SubspaceBasis, covariance: torch.Tensor, device: torch.device
) -> list[Directions]:
    """Return what a step along each direction of an open basis costs, for each group of rows.

    Args:
        basis: Of the layer's inputs, those of all groups together.
        covariance: C of the earlier inputs, ``[d, d]``, or ``[g, d, d]`` by group.
        device: Where the directions are wanted.
    """
    columns, largest = as_open(basis).columns.to(device), float(basis.sigma[-1])
    if covariance.dim() == 3:
        return [Directions.within(columns, own, largest) for own in covariance]
    return [Directions.of_eigenvectors(columns, basis.sigma[: basis.rank], largest)]


def as_open(basis: SubspaceBasis) -> OpenBasis:
    """Return a basis that was asked to keep its open side as what it is."""
    assert isinstance(basis, OpenBasis), "needs_open has been the same since it was stored"
    return basis
