"""Random shares of a set of images: for testing, for validation, for a limit per class."""

from __future__ import annotations

import torch

_ROUNDING = 1e-9  # 0.29 * 100 is 28.999... in binary; the user meant 29


def floor_share(count: int, fraction: float) -> int:
    """Return ``fraction`` (0 to 1, exclusive) of ``count``, rounded down; never all of them."""
    return min(int(count * fraction + _ROUNDING), max(count - 1, 0))


def pick(count: int, number: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the positions of ``number`` random items out of ``count``, and those of the others.

    Both are int64 and ascending, so that items keep the order of their source.
    """
    order = torch.randperm(count, generator=generator)
    return order[:number].sort().values, order[number:].sort().values
