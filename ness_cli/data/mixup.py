"""Mixup (Zhang et al. 2018): train on mixtures of two images and of their labels."""

from __future__ import annotations

from dataclasses import replace

import torch

from ness_cli.data.batches import Batch


def mixed(batch: Batch, alpha: float) -> Batch:
    """Return a batch whose images are mixed with others of it, by one random weight for all.

    Args:
        batch: The batch.
        alpha: The weight is drawn from Beta(alpha, alpha), by torch's default generator.
    """
    mix_weight = float(symmetric_beta(alpha, 1))
    partner = torch.randperm(len(batch)).to(batch.x.device)
    x = mix_weight * batch.x + (1 - mix_weight) * batch.x[partner]
    return replace(batch, x=x, partner_y=batch.y[partner], mix_weight=mix_weight)


def symmetric_beta(alpha: float, count: int) -> torch.Tensor:
    """Return draws from Beta(alpha, alpha), float64 ``[count]``, by torch's default generator.

    A draw is G / (G + H) of two draws from Gamma(alpha). With a small alpha nearly all of them are
    smaller than any number that floats can hold, so only their logarithms are computed, of
    G(alpha) = G(alpha + 1) U^(1 / alpha) (Marsaglia and Tsang 2000, section 6).

    Args:
        alpha: Above 0; the smaller, the closer to 0 or 1 are the draws.
        count: Number of draws.
    """
    gamma = torch.distributions.Gamma(torch.tensor(alpha + 1.0, dtype=torch.float64), 1.0)
    log_gamma = gamma.sample((2, count)).log()
    log_uniform = (1 - torch.rand(2, count, dtype=torch.float64)).log()  # of (0, 1], never of 0
    # The difference first: each quotient may be infinite, and infinities have no difference.
    log_odds = log_gamma[0] - log_gamma[1] + (log_uniform[0] - log_uniform[1]) / alpha
    return log_odds.sigmoid()
