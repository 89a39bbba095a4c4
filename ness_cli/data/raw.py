"""A task stream as a source reads it, before validation images are set aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RawSplit:
    """Images uint8 ``[n, c, h, w]`` and labels int64 ``[n]``, 0 .. number of classes - 1."""

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class RawTask:
    """One task of a source.

    Attributes:
        name: Short name for tables.
        classes: Class names; labels are positions in it.
        num_train: Number of training images.
        num_test: Number of test images.
        read: Reads ``train`` or ``test``; told of every image done. Called only when needed.
    """

    name: str
    classes: tuple[str, ...]
    num_train: int
    num_test: int
    read: Callable[[str, Callable[[int], None]], RawSplit]


@dataclass(frozen=True)
class RawStream:
    """The tasks of a source.

    Attributes:
        tasks: In order.
        image_shape: ``(c, h, w)`` of every image.
        shared_labels: Whether all tasks have the same label space, as a shared head needs.
    """

    tasks: tuple[RawTask, ...]
    image_shape: tuple[int, int, int]
    shared_labels: bool = False
