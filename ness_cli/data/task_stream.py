"""A prepared stream of tasks: opens one split of one task at a time, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ness_cli import tensor_files
from ness_cli.errors import DamagedError, InputError


@dataclass(frozen=True)
class Split:
    """Images uint8 ``[n, c, h, w]`` and labels int64 ``[n]``, local to their task."""

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class TaskInfo:
    """What is known of a task without opening its images; ``number`` counts from 1."""

    number: int
    name: str
    classes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)


class TaskStream:
    """Tasks over prepared tensors.

    Args:
        manifest: The content of ``stream.json``.
        cache: Folder of prepared data.
        remedy: The command that prepares the images again, for error messages.
    """

    def __init__(self, manifest: Mapping[str, Any], cache: Path, *, remedy: str) -> None:
        self.manifest = manifest
        self.key: str = manifest["key"]
        self.folder = cache_folder(cache, self.key)
        self.remedy = remedy
        channels, height, width = manifest["image_shape"]
        self.image_shape: tuple[int, int, int] = (channels, height, width)
        self.mean: list[float] = list(manifest["mean"])
        self.std: list[float] = list(manifest["std"])

    @property
    def num_tasks(self) -> int:
        """Number of tasks."""
        return len(self.manifest["tasks"])

    def info(self, number: int) -> TaskInfo:
        """Return name and classes of task ``number``, from 1.

        Raises:
            InputError: If there is no such task.
        """
        if not 1 <= number <= self.num_tasks:
            raise InputError(f"task {number} is not between 1 and {self.num_tasks}")
        task = self.manifest["tasks"][number - 1]
        return TaskInfo(number, task["name"], tuple(task["classes"]))

    def split(self, number: int, name: str) -> Split:
        """Open ``train``, ``valid`` or ``test`` of task ``number``: one file, verified.

        Raises:
            InputError: If the file is gone or belongs to other data.
            DamagedError: If it is not what was prepared.
        """
        self.info(number)
        entry = self.manifest["tasks"][number - 1]["splits"][name]
        tensors = tensor_files.read(
            self.folder / entry["file"],
            {"kind": "images", "stream": self.key, "task": number, "split": name},
            remedy=self.remedy,
            sha256=entry["sha256"],
        )
        split = Split(tensors["images"], tensors["labels"])
        if len(split.images) != entry["count"]:
            raise DamagedError(f"{self.folder / entry['file']} has lost images", self.remedy)
        return split


def cache_folder(cache: Path, key: str) -> Path:
    """Return the folder of a prepared stream inside the cache."""
    return cache / key[:32]
