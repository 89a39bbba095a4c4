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
        train_counts: Training images of every class, those that are to be set aside for
            validation included.
        test_counts: Test images of every class.
        num_valid: Validation images of the data set's own, ``None`` if it has none.
        options: Settings of the data set that it is cut from.
    """

    name: str
    classes: tuple[str, ...]
    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]
    num_valid: int | None
    options: DatasetSettings


@dataclass(frozen=True)
class StreamOutline:
    """A stream known from listings alone.

    Attributes:
        image_shape: ``(channels, height, width)`` of every image.
        shared_labels: Whether label k means the same in every task, as a shared head needs.
        tasks: The tasks in their order.
        left_out: Names of files that cannot be read and are skipped on request.
        missing: Why some data sets of a sequence cannot be listed.
    """

    image_shape: tuple[int, int, int]
    shared_labels: bool
    tasks: tuple[TaskOutline, ...]
    left_out: tuple[str, ...] = ()
    missing: tuple[InputError, ...] = ()


@dataclass(frozen=True)
class RawTask:
    """The images of a task, before validation images are set aside, unless it has its own.

    Attributes:
        name: Name of the task.
        classes: Names of its classes; label k stands for the k-th.
        train_images: uint8 ``[n, c, h, w]``.
        train_labels: int64 ``[n]``, local to the task: 0 to ``len(classes) - 1``.
        test_images: uint8 ``[m, c, h, w]``.
        test_labels: int64 ``[m]``.
        options: Settings of the data set that it is cut from.
        dataset: Number of that data set in the stream; its tasks share constants of normalisation.
        valid: Images and labels for validation, where the data set has its own.
    """

    name: str
    classes: tuple[str, ...]
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    options: DatasetSettings
    dataset: int = 0
    valid: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def train_counts(self) -> tuple[int, ...]:
        """Training images of every class, those that are to be set aside included."""
        return tuple(self.train_labels.bincount(minlength=len(self.classes)).tolist())

    @property
    def test_counts(self) -> tuple[int, ...]:
        """Test images of every class."""
        return tuple(self.test_labels.bincount(minlength=len(self.classes)).tolist())


@dataclass(frozen=True)
class RawStream:
    """Tasks that are read one at a time, so that only one is in memory.

    Attributes:
        image_shape: ``(channels, height, width)`` of every image.
        shared_labels: Whether label k means the same in every task, as a shared head needs.
        tasks: The tasks in their order; can be consumed once.
        left_out: Names of files that cannot be read and are skipped on request.
    """

    image_shape: tuple[int, int, int]
    shared_labels: bool
    tasks: Iterator[RawTask]
    left_out: tuple[str, ...] = ()
