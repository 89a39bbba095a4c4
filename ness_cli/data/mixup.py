"""Mixup (Zhang et al. 2018): train on mixtures of two images and of their labels."""

from __future__ import annotations

from dataclasses import replace

import torch

from ness_cli.data.batches import Batch


def mixed(batch: Batch, alpha: float) -> Batch:
    """Return a batch whose images are mixed with others of it, in one random share for all.

    Args:
        batch: The batch.
        alpha: The share is drawn from Beta(alpha, alpha), by torch's default generator.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partner = torch.randperm(len(batch)).to(batch.x.device)
    x = share * batch.x + (1 - share) * batch.x[partner]
    return replace(batch, x=x, partner_y=batch.y[partner], share=share)
