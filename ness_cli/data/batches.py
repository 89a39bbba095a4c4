"""Batches of normalised images, made on the device from uint8 tensors, by index."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ness_cli.data.image_budget import ImageBudget
from ness_cli.data.task_stream import Split

Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """Images as the network sees them, with labels local to their task.

    ``x`` is float32 ``[n, c, h, w]``, ``y`` int64 ``[n]``, ``task`` the number of the task (from
    1) that the images belong to. ``weight`` is the fraction of a whole batch that these images
    are, less than 1 if several processes have divided it. With mixup ``x`` is ``mix_weight`` times
    each image (lambda in the paper; one for all, or one for each, ``[n]``) and the rest another
    one, whose label is in ``partner_y``.
    """

    x: torch.Tensor
    y: torch.Tensor
    task: int
    weight: float = 1.0
    partner_y: torch.Tensor | None = None
    mix_weight: float | torch.Tensor = 1.0

    def __len__(self) -> int:
        return len(self.y)


class Images:
    """One split of one task, on the device as uint8 and normalised batch by batch.

    What the budget does not allow stays in main memory; batches are gathered there and copied
    through pinned memory while the device computes.

    Args:
        split: uint8 images ``[n, c, h, w]`` and int64 labels ``[n]``.
        task: Number of the task they belong to.
        mean: Mean per channel of values in 0..1.
        std: Standard deviation per channel.
        device: Where batches are made.
        budget: Whether the images may lie on the device; they do when ``None``.
    """

    def __init__(
        self,
        split: Split,
        *,
        task: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        budget: ImageBudget | None = None,
    ) -> None:
        is_resident = budget is None or budget.take(split.images, self)
        self.images = split.images.to(device) if is_resident else split.images
        self.labels = split.labels.to(device)
        self.task = task
        self.mean, self.std = tuple(mean), tuple(std)
        constants = torch.tensor([mean, std], dtype=torch.float32, device=device)
        self._mean, self._std = constants[:, :, None, None] * 255

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: torch.Tensor | slice, change: Change | None = None) -> Batch:
        """Return the images at ``index`` (int64 positions or a slice), normalised.

        Args:
            index: Which images; positions may lie on any device.
            change: What is done to them before, uint8 ``[n, c, h, w]`` to the same.
        """
        device, where = self.labels.device, index
        if isinstance(index, torch.Tensor):
            # One copy of the positions at most, and none where they lie already.
            where = index.to(self.images.device)
            index = where if self.images.device == device else index.to(device)
        images = self.images[where]
        if images.device != device:
            images = images.pin_memory().to(device, non_blocking=True)
        if change is not None:
            images = change(images)
        x = (images.float() - self._mean) / self._std
        return Batch(x, self.labels[index], self.task)

    def subset(self, positions: torch.Tensor) -> Images:
        """Return a set of some of the images, copied, that lies where this one does.

        They are as stored, before any augmentation. The budget does not count them: they are a few.

        Args:
            positions: Which images, int64 ``[n]``, in which order; on any device.
        """
        chosen = copy.copy(self)
        chosen.images = self.images[positions.to(self.images.device)]
        chosen.labels = self.labels[positions.to(self.labels.device)]
        return chosen

    def in_order(self, size: int, smallest: int = 1) -> Iterator[Batch]:
        """Yield all images in stored order, cut as by ``cut``."""
        for where in self.batch_slices(size, smallest):
            yield self.batch(where)

    def batch_slices(self, size: int, smallest: int = 1) -> list[slice]:
        """Return where those batches lie."""
        return cut(len(self), size, smallest)


def cut(num_images: int, size: int, smallest: int = 1) -> list[slice]:
    """Return where batches of ``size`` images lie; the last one may be smaller.

    Where it would have fewer than ``smallest`` images, the last two share theirs evenly, or are
    one. Without it, a batch that normalises by its own statistics may have a single image.
    """
    ends = [*range(size, num_images, size), num_images] if num_images else []
    if len(ends) > 1 and num_images - ends[-2] < smallest:
        start = ends[-2] - size
        middle = start + (num_images - start + 1) // 2
        ends[-2:] = [middle, num_images] if num_images - middle >= smallest else [num_images]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def validation_batch_size(num_images: int, smallest: int = 256) -> int:
    """Return the batch size that cuts ``num_images`` into even batches of at least ``smallest``.

    A batch that normalises by its own statistics must not be small by accident of a remainder.
    """
    num_batches = max(1, num_images // smallest)
    return max(1, -(-num_images // num_batches))
