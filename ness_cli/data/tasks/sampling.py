"""Random samples of a set of images: for testing, for validation, for a limit per class."""

from __future__ import annotations

import torch

_ROUNDING = 1e-9  # 0.29 * 100 is 28.999... in binary; the user meant 29


def floor_fraction(count: int, fraction: float) -> int:
    """Return ``fraction`` (0 to 1, exclusive) of ``count``, rounded down; never all of them."""
    return min(int(count * fraction + _ROUNDING), max(count - 1, 0))


def valid_count(count: int, num_classes: int, fraction: float) -> int:
    """Return how many of ``count`` training images to set aside for validation.

    Args:
        count: Images of ``num_classes`` classes, one of each at least; as many stay in training.
        num_classes: Number of classes.
        fraction: How many of them, 0 to 1, exclusive.
    """
    return min(floor_fraction(count, fraction), count - num_classes)


def split_off(
    labels: torch.Tensor, count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random positions of ``count`` images and of the rest, which has all classes.

    Where chance takes the last image of a class, it trades places with one of a class that has
    several left.

    Args:
        labels: int64 ``[n]``.
        count: At most ``n`` less the number of classes.
        generator: Draws one permutation.
    """
    order = torch.randperm(len(labels), generator=generator)
    left = labels[order[count:]].bincount(minlength=int(labels.max()) + 1)
    for lost in sorted(set(labels.tolist())):
        if left[lost] == 0:
            drawn = labels[order]
            mine = int((drawn[:count] == lost).nonzero()[0])
            other = count + int((left[drawn[count:]] > 1).nonzero()[0])
            left[lost] += 1
            left[drawn[other]] -= 1
            order[[mine, other]] = order[[other, mine]]
    return order[:count], order[count:]


def pick(count: int, number: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the positions of ``number`` random items out of ``count``, and those of the others.

    Both are int64 and ascending, so that items keep the order of their source.
    """
    order = torch.randperm(count, generator=generator)
    return order[:number].sort().values, order[number:].sort().values
