"""What is done to the images of a task that shares its classes with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.nn import functional

from ness_cli import seeding
from ness_cli.data.dataset import Shape
from ness_cli.settings.sources.base import DatasetSettings

Change = Callable[[torch.Tensor], torch.Tensor]
"""From uint8 images ``[n, c, h, w]`` to the same."""


def permutations(
    shape: Shape, num_tasks: int, options: DatasetSettings
) -> Iterator[tuple[str, Change]]:
    """Yield permutations of the pixels, the first one included; channels move together."""
    for task in range(1, num_tasks + 1):
        generator = seeding.generator(options.stream_seed, "permutation", task)
        order = torch.randperm(shape[1] * shape[2], generator=generator)
        yield f"permutation-{task}", partial(permuted, order=order)


def rotations(
    shape: Shape, num_tasks: int, options: DatasetSettings
) -> Iterator[tuple[str, Change]]:
    """Yield rotations about the centre, counter-clockwise, the first one by nothing."""
    for task in range(num_tasks):
        angle = options.max_angle * task / num_tasks
        yield f"rotation-{angle:g}", partial(rotated, angle=angle)


def permuted(images: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return images ``[n, c, h, w]`` with their pixels in another order, int64 ``[h w]``."""
    return images.flatten(2)[:, :, order].reshape(images.shape)


def rotated(images: torch.Tensor, angle: float, chunk: int = 4096) -> torch.Tensor:
    """Return images rotated counter-clockwise about their centre, bilinear, black outside.

    Args:
        images: uint8 ``[n, c, h, w]``.
        angle: Degrees.
        chunk: Images at a time.
    """
    if angle == 0:
        return images
    height, width = images.shape[2:]
    turn = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
    cos, sin = turn.cos(), turn.sin()
    # Where each output pixel comes from, in coordinates of -1..1 along each side.
    theta = torch.stack(
        [
            torch.stack([cos, -sin * height / width, torch.zeros_like(cos)]),
            torch.stack([sin * width / height, cos, torch.zeros_like(cos)]),
        ]
    )
    out = torch.empty_like(images)
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk].double()
        grid = functional.affine_grid(
            theta.expand(len(part), 2, 3), list(part.shape), align_corners=False
        )
        turned = functional.grid_sample(part, grid, align_corners=False)
        out[start : start + chunk] = turned.round().clamp(0, 255).to(torch.uint8)
    return out
