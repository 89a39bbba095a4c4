"""Rules that put the threshold tau into a spectrum: directions with sigma <= tau are learned in."""

from __future__ import annotations

import torch
from torch.nn import functional

_SMOOTH_FROM = 128  # values from which the knee is looked for in a smoothed sequence
_SMOOTHING = 10.0  # standard deviation of the Gaussian, in positions
_IGNORED = 0.015  # share of positions at both ends that are no candidates for the knee


def nuclear(sigma: torch.Tensor, eps1: float) -> float:
    """Return eps1 times the sum of the singular values, as in every published run."""
    return eps1 * float(sigma.sum())


def frobenius(sigma: torch.Tensor, eps1: float) -> float:
    """Return eps1 times the root of the sum of squares, NESS 2026 Eq. 5 as printed."""
    return eps1 * float(sigma.square().sum().sqrt())


def rms(sigma: torch.Tensor, eps1: float) -> float:
    """Return eps1 times the root mean square, whatever the width of the layer."""
    return eps1 * float(sigma.square().mean().sqrt())


def energy(sigma: torch.Tensor, eps1: float) -> float:
    """Return the largest sigma up to which the energy from below is at most eps1 of all."""
    cumulative = sigma.square().cumsum(0)
    inside = sigma[cumulative <= eps1 * float(cumulative[-1])]
    return float(inside[-1]) if len(inside) else 0.0


def knee(sigma: torch.Tensor, eps1: float) -> float:
    """Return sigma where the descending eigenvalues bend most (NSP2, Lu et al. 2024); no eps1.

    The place of the largest second difference, of the sequence smoothed if it is long; its ends do
    not count. 0 for fewer than three directions, which have no bend.
    """
    values = sigma.square().flip(0)
    if len(values) >= _SMOOTH_FROM:
        values = _smoothed(values)
    bend = values[:-2] - 2 * values[1:-1] + values[2:]
    ignored = int(_IGNORED * len(values))
    candidates = bend[ignored : len(bend) - ignored]
    if not len(candidates):
        return 0.0
    index = ignored + int(candidates.argmax()) + 1
    return float(sigma.flip(0)[index])


RULES = {rule.__name__: rule for rule in (nuclear, frobenius, rms, energy, knee)}


def threshold(sigma: torch.Tensor, *, rule: str, eps1: float) -> float:
    """Return tau by a rule.

    Args:
        sigma: Singular values, ``[d]`` float64, ascending.
        rule: A name in ``RULES``.
        eps1: What the rule multiplies or compares; ``knee`` does not look at it.
    """
    return RULES[rule](sigma, eps1)


def _smoothed(values: torch.Tensor) -> torch.Tensor:
    """Return a sequence smoothed with a Gaussian, its ends continued as they are."""
    reach = int(4 * _SMOOTHING)
    offsets = torch.arange(-reach, reach + 1, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (offsets / _SMOOTHING).square())
    padded = functional.pad(values[None, None], (reach, reach), mode="replicate")
    return functional.conv1d(padded, (kernel / kernel.sum())[None, None])[0, 0]
