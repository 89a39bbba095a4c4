"""The batches of an epoch, in random order."""

from __future__ import annotations

import torch

from ness_cli.data.batches import Images, cut


def epoch_batches(
    sets: list[Images], batch_size: int, generator: torch.Generator, *, smallest: int = 1
) -> list[tuple[Images, torch.Tensor]]:
    """Return the batches of an epoch as (set, positions), in random order, never mixing two sets.

    Every image is in exactly one batch; the last batch of a set may be smaller.

    Args:
        sets: Sets of images.
        batch_size: Images per batch.
        generator: Draws the order.
        smallest: A smaller last batch shares images with the one before.
    """
    batches = []
    for images in sets:
        order = torch.randperm(len(images), generator=generator)
        batches += [(images, order[where]) for where in cut(len(images), batch_size, smallest)]
    if len(sets) > 1:
        order = torch.randperm(len(batches), generator=generator)
        batches = [batches[index] for index in order.tolist()]
    return batches
