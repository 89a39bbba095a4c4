"""Write the images of a task stream into the cache: a file for every split of every task."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ness_cli import seeding, tensor_files
from ness_cli.data.normalisation import Constants, channel_statistics, given_constants
from ness_cli.data.stream_manifest import task_entry
from ness_cli.data.stream_plan import StreamPlan
from ness_cli.data.tasks.plan import Splits, TaskPlan
from ness_cli.data.tasks.sampling import split_off, valid_count
from ness_cli.errors import SystemRefusedError
from ness_cli.files import remove_leftovers


def write_images(
    planned: StreamPlan, images: Iterator[Splits], folder: Path, key: str
) -> list[dict[str, Any]]:
    """Write the images of every task, and return what the manifest says of the tasks.

    The folder is held by this process: what one that was killed left half written is removed.
    """
    with write_refusals(folder):
        # First of all: what is written over must not look complete meanwhile.
        (folder / "stream.json").unlink(missing_ok=True)
        remove_leftovers(folder)
    tasks = []
    constants: dict[int, Constants] = {}
    for task_number, (task, found) in enumerate(zip(planned.tasks, images, strict=True), 1):
        splits = _splits(task, found)
        if task.dataset not in constants:
            mean, std = given_constants(task.options, planned.image_shape[0])
            computed_mean, computed_std = channel_statistics(splits["train"]["images"])
            constants[task.dataset] = (mean or computed_mean, std or computed_std)
        files = {}
        for split, tensors in splits.items():
            path = folder / f"task-{task_number:02d}-{split}.safetensors"
            identity = {"kind": "images", "split": split, "stream": key, "task": task_number}
            with write_refusals(path):
                sha256 = tensor_files.write(path, tensors, identity)
                files[split] = {
                    "file": path.name,
                    "count": len(tensors["labels"]),
                    "bytes": path.stat().st_size,
                    "sha256": sha256,
                }
        tasks.append(task_entry(task_number, task, constants[task.dataset], files))
    return tasks


def _splits(task: TaskPlan, found: Splits) -> dict[str, dict[str, torch.Tensor]]:
    """Set validation images aside, if the data has none, and mix the order of every split.

    Sources hand images over class by class; wherever a layer normalises by its batch, a batch in
    stored order must look like the task and not like a class. One rule for every task: tasks with
    equal labels get equal positions.
    """
    seed, fraction = task.options.stream_seed, task.options.valid_fraction
    (images, labels), own = found["train"], found.get("valid")
    num_valid = 0 if own is not None else valid_count(len(labels), len(task.classes), fraction)
    valid, train = split_off(labels, num_valid, seeding.generator(seed, "valid-split"))
    return {
        "train": _chosen(images, labels, train),
        "valid": _chosen(images, labels, valid)
        if own is None
        else _mixed(*own, seeding.generator(seed, "valid-order")),
        "test": _mixed(*found["test"], seeding.generator(seed, "test-order")),
    }


def _mixed(
    images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    return _chosen(images, labels, torch.randperm(len(labels), generator=generator))


def _chosen(
    images: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor
) -> dict[str, torch.Tensor]:
    return {"images": images[positions], "labels": labels[positions]}


@contextlib.contextmanager
def write_refusals(path: Path) -> Iterator[None]:
    """Refuse to go on where the cache cannot be written, naming the path and what helps."""
    try:
        yield
    except OSError as error:
        raise SystemRefusedError(
            f"{path} cannot be written: {error.strerror or error}",
            "free some space, or point NESS_CACHE to another folder",
        ) from error
