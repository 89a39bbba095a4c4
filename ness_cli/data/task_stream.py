"""A prepared task stream: every split of every task a file of its own, opened on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ness_cli import tensor_files
from ness_cli.errors import InputError

SPLITS = ("train", "valid", "test")
"""What the images of a task are divided into."""
FOLDER_LENGTH = 32
"""Characters of a stream's key that name its folder in the cache."""


@dataclass(frozen=True)
class Split:
    """Images of one split of one task.

    Attributes:
        images: uint8 ``[n, c, h, w]``.
        labels: int64 ``[n]``, local to the task.
    """

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class TaskInfo:
    """What is known of a task without opening its images.

    Attributes:
        number: Its number, from 1.
        name: Its name.
        classes: Names of its classes; label k stands for the k-th.
        mean: Mean per channel of pixel values scaled to 0..1, that images are normalised with.
        std: Standard deviation per channel, likewise.
    """

    number: int
    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.classes)


class TaskStream:
    """A sequence of tasks in the cache.

    Args:
        manifest: What ``prepare`` returned.
        cache: Folder of prepared data, shared by runs.
        remedy: What messages say to do when a file is missing or damaged.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        cache: Path,
        remedy: str = "run: ness prepare --out RUN",
    ) -> None:
        self.key: str = manifest["key"]
        self.image_shape: tuple[int, int, int] = tuple(manifest["image_shape"])
        self.shared_labels: bool = manifest["shared_labels"]
        self._tasks: list[Mapping[str, Any]] = manifest["tasks"]
        self._cache = cache
        self._remedy = remedy

    @property
    def num_tasks(self) -> int:
        """Return the number of tasks."""
        return len(self._tasks)

    def info(self, task_number: int) -> TaskInfo:
        """Return what is known of a task, counted from 1.

        Raises:
            InputError: If there is no such task.
        """
        task = self._task(task_number)
        constants = tuple(task["mean"]), tuple(task["std"])
        return TaskInfo(task_number, task["name"], tuple(task["classes"]), *constants)

    def num_classes(self, task_number: int) -> int:
        """Return how many classes a task has; of hundreds without delay."""
        return len(self._task(task_number)["classes"])

    def num_images(self, task_number: int, split: str) -> int:
        """Return how many images a split of a task has, without opening it."""
        return int(self._task(task_number)["splits"][split]["count"])

    def split(self, task_number: int, split: str) -> Split:
        """Open one split of one task, and no other file.

        Args:
            task_number: The task, counted from 1.
            split: ``train``, ``valid`` or ``test``.

        Raises:
            InputError: If there is no such task, or its file is missing.
            DamagedError: If the file does not read back as it was written.
        """
        task = self._task(task_number)
        tensors = tensor_files.read(
            self._path(task, split),
            {
                "kind": "images",
                "split": split,
                "stream": self._key(task),
                "task": task.get("number_in_stream", task_number),
            },
            remedy=self._remedy,
            sha256=task["splits"][split]["sha256"],
        )
        return Split(tensors["images"], tensors["labels"])

    def has(self, task_number: int, split: str) -> bool:
        """Return whether the images of one split of one task are in the cache."""
        return self._path(self._task(task_number), split).exists()

    def _path(self, task: Mapping[str, Any], split: str) -> Path:
        name: str = task["splits"][split]["file"]
        return self._cache / self._key(task)[:FOLDER_LENGTH] / name

    def _key(self, task: Mapping[str, Any]) -> str:
        """Return the key of the stream that a task was prepared with; one appended has its own."""
        return str(task.get("stream", self.key))

    def _task(self, task_number: int) -> Mapping[str, Any]:
        if not 1 <= task_number <= len(self._tasks):
            raise InputError(
                f"there is no task {task_number}: tasks are numbered 1 to {self.num_tasks}",
                "choose one of them",
            )
        return self._tasks[task_number - 1]
