"""What a data source hands over: its tasks as unnormalised tensors, and their outline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TaskOutline:
    """A task known from listings alone.

    Attributes:
        name: Name of the task.
        classes: Names of its classes; label k stands for the k-th.
        num_train: Training images, those for validation included.
        num_test: Test images.
    """

    name: str
    classes: tuple[str, ...]
    num_train: int
    num_test: int


@dataclass(frozen=True)
class StreamOutline:
    """A stream known from listings alone.

    Attributes:
        image_shape: ``(channels, height, width)`` of every image.
        shared_labels: Whether label k means the same in every task, as a shared head needs.
        tasks: The tasks in their order.
    """

    image_shape: tuple[int, int, int]
    shared_labels: bool
    tasks: tuple[TaskOutline, ...]


@dataclass(frozen=True)
class RawTask:
    """The images of a task, before validation images are set aside.

    Attributes:
        name: Name of the task.
        classes: Names of its classes; label k stands for the k-th.
        train_images: uint8 ``[n, c, h, w]``.
        train_labels: int64 ``[n]``, local to the task: 0 to ``len(classes) - 1``.
        test_images: uint8 ``[m, c, h, w]``.
        test_labels: int64 ``[m]``.
    """

    name: str
    classes: tuple[str, ...]
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


@dataclass(frozen=True)
class RawStream:
    """Tasks that are read one at a time, so that only one is in memory.

    Attributes:
        image_shape: ``(channels, height, width)`` of every image.
        shared_labels: Whether label k means the same in every task, as a shared head needs.
        tasks: The tasks in their order; can be consumed once.
    """

    image_shape: tuple[int, int, int]
    shared_labels: bool
    tasks: Iterator[RawTask]
