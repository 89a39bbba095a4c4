"""What a data source hands over: its tasks as unnormalised tensors, and their outline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ness_cli.errors import InputError
from ness_cli.settings.sources.base import DatasetSettings


@dataclass(frozen=True)
class TaskOutline:
    """A task known from listings alone.

    Attributes:
        name: Name of the task.
        classes: Names of its classes; label k stands for the k-th.
        num_train: Training images, those for validation included.
        num_test: Test images.
        options: Settings of the data set that it is cut from.
    """

    name: str
    classes: tuple[str, ...]
    num_train: int
    num_test: int
    options: DatasetSettings


@dataclass(frozen=True)
class StreamOutline:
    """A stream known from listings alone.

    Attributes:
        image_shape: ``(channels, height, width)`` of every image.
        shared_labels: Whether label k means the same in every task, as a shared head needs.
        tasks: The tasks in their order.
        missing: Why some data sets of a sequence cannot be listed.
    """

    image_shape: tuple[int, int, int]
    shared_labels: bool
    tasks: tuple[TaskOutline, ...]
    missing: tuple[InputError, ...] = ()


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
        options: Settings of the data set that it is cut from.
        dataset: Number of that data set in the stream; its tasks share constants of normalisation.
    """

    name: str
    classes: tuple[str, ...]
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    options: DatasetSettings
    dataset: int = 0


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
