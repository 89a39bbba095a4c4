"""From a data source to prepared tensors in the cache, shared by all runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import torch

from ness_cli import registry, seeding, tensor_files
from ness_cli.console import Progress
from ness_cli.data.raw import RawSplit, RawStream, RawTask
from ness_cli.data.task_stream import cache_folder
from ness_cli.errors import InputError, NessError, SettingsError
from ness_cli.run_dir import read_json, write_json
from ness_cli.settings.sources.base import DataSettings

SOURCES = "ness_cli.data.sources"
FORMAT = 1
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class _Plan:
    """A stream, with sizes known and nothing read."""

    stream: RawStream
    options: DataSettings

    def num_valid(self, task: RawTask) -> int:
        return int(task.num_train * self.options.valid_fraction)

    def counts(self, task: RawTask) -> dict[str, int]:
        valid = self.num_valid(task)
        return {"train": task.num_train - valid, "valid": valid, "test": task.num_test}


def plan(options: DataSettings) -> dict[str, Any]:
    """Return the manifest that ``prepare`` would make, without hashes; reads no more than needed.

    Raises:
        InputError: If the images are not there or not usable.
        SettingsError: If the settings do not fit them.
    """
    planned = _plan(options)
    channels, height, width = planned.stream.image_shape
    size = channels * height * width + 8
    splits = [
        {
            name: {"count": count, "bytes": count * size}
            for name, count in planned.counts(task).items()
        }
        for task in planned.stream.tasks
    ]
    return _manifest(planned, splits, {"mean": None, "std": None})


def prepare(options: DataSettings, cache: Path, progress: Progress) -> dict[str, Any]:
    """Prepare a stream, or find it prepared, and return its manifest.

    The cache is keyed by content and settings, never by where the images lie. Two processes that
    prepare the same stream take turns; the second finds the work done.

    Args:
        options: The source and how it becomes tasks.
        cache: Folder of prepared data.
        progress: Told what is going on.

    Raises:
        InputError: If the images are not there or not usable.
        SettingsError: If the settings do not fit them.
        OSError: If the cache cannot be written.
    """
    module = registry.load(SOURCES, options.source, place="data.source")
    identity = {
        "format": FORMAT,
        "content": module.content_hash(options),
        "options": options.model_dump(mode="json", exclude={"path"}),
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    folder = cache_folder(cache, key)
    cache.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(cache / f"{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        progress.note("another process is preparing the same images, waiting for it")
        lock.acquire()
    try:
        ready = _ready(folder)
        return ready if ready is not None else _write(_plan(options), key, folder, progress)
    finally:
        lock.release()


def _plan(options: DataSettings) -> _Plan:
    module = registry.load(SOURCES, options.source, place="data.source")
    planned = _Plan(module.read(options), options)
    channels = planned.stream.image_shape[0]
    for name in ("mean", "std"):
        given = getattr(options, name)
        if given is not None and len(given) != channels:
            raise SettingsError(
                f"data.{name}: {len(given)} numbers for images of {channels} channels"
            )
    if options.std is not None and min(options.std) <= 0:
        raise SettingsError(f"data.std: {min(options.std)} is not greater than 0")
    for number, task in enumerate(planned.stream.tasks, start=1):
        for name, count in planned.counts(task).items():
            if count == 0 and name != "valid":
                raise InputError(f"task {number} ({task.name}) has no {name} images")
    return planned


def _ready(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a stream that is completely there, else ``None``."""
    try:
        manifest = read_json(folder / "stream.json", remedy="")
        for task in manifest["tasks"]:
            for entry in task["splits"].values():
                path = folder / entry["file"]
                if tensor_files.sha256_of(path) != entry["sha256"]:
                    return None
    except (NessError, OSError, KeyError):
        return None
    return manifest


def _write(planned: _Plan, key: str, folder: Path, progress: Progress) -> dict[str, Any]:
    (folder / "stream.json").unlink(missing_ok=True)
    stream, options = planned.stream, planned.options
    constants = {"mean": options.mean, "std": options.std}
    written = []
    total = sum(task.num_train + task.num_test for task in stream.tasks)
    with progress.track("preparing images", total) as track:
        for number, task in enumerate(stream.tasks, start=1):
            splits = _splits(planned, task, lambda n: track(n, ""))
            if number == 1:
                computed = _mean_std(splits["train"].images)
                constants = {name: constants[name] or computed[name] for name in constants}
            written.append({n: _entry(folder, key, number, n, splits[n]) for n in SPLITS})
    manifest = _manifest(planned, written, constants) | {"key": key}
    write_json(folder / "stream.json", manifest)
    return manifest


def _splits(planned: _Plan, task: RawTask, advance: Callable[[int], None]) -> dict[str, RawSplit]:
    train, test = task.read("train", advance), task.read("test", advance)
    # The same rule in every task, so that permuted tasks hold out the same images.
    generator = seeding.generator(planned.options.split_seed, "valid-split")
    order = torch.randperm(task.num_train, generator=generator)
    num_valid = planned.num_valid(task)
    valid, rest = order[:num_valid].sort().values, order[num_valid:].sort().values
    return {
        "train": RawSplit(train.images[rest], train.labels[rest]),
        "valid": RawSplit(train.images[valid], train.labels[valid]),
        "test": test,
    }


def _entry(folder: Path, key: str, number: int, name: str, split: RawSplit) -> dict[str, Any]:
    path = folder / f"task-{number:02d}-{name}.safetensors"
    sha256 = tensor_files.write(
        path,
        {"images": split.images, "labels": split.labels},
        {"kind": "images", "stream": key, "task": number, "split": name},
    )
    size = path.stat().st_size
    return {"file": path.name, "count": len(split.labels), "bytes": size, "sha256": sha256}


def _mean_std(images: torch.Tensor) -> dict[str, tuple[float, ...]]:
    """Return mean and standard deviation per channel of values in 0..1."""
    channels = images.shape[1]
    # Exact counts of the 256 values: no rounding, and no float copy of the images.
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(channels):
        counts = torch.bincount(images[:, channel].flatten().long(), minlength=256).double()
        mean = float((counts * values).sum() / counts.sum())
        variance = float((counts * (values - mean).square()).sum() / counts.sum())
        means.append(mean)
        # A channel that never changes carries nothing; dividing by 1 leaves it at zero.
        stds.append(variance**0.5 if variance > 0 else 1.0)
    return {"mean": tuple(means), "std": tuple(stds)}


def _manifest(
    planned: _Plan, splits: Sequence[dict[str, Any]], constants: dict[str, Any]
) -> dict[str, Any]:
    stream = planned.stream
    return {
        "schema": "ness.stream/1",
        "source": planned.options.source,
        "image_shape": list(stream.image_shape),
        "shared_labels": stream.shared_labels,
        **{name: None if value is None else list(value) for name, value in constants.items()},
        "tasks": [
            {"number": number, "name": task.name, "classes": list(task.classes), "splits": files}
            for number, (task, files) in enumerate(zip(stream.tasks, splits, strict=True), start=1)
        ],
    }
