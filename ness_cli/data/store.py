"""Turn the settings of a data source into a task stream in the cache.

An entry of the cache is named by a hash of the settings that shape it and of the raw content, never
by where the data lies. ``stream.json`` is written last: an entry without it is incomplete.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import torch

from ness_cli import seeding, tensor_files
from ness_cli.data.formats.content import readable_sha256
from ness_cli.data.stream_plan import (
    StreamPlan,
    content_hashes,
    content_of_all,
    opened_stream,
    plan_stream,
)
from ness_cli.data.task_stream import FOLDER_LENGTH, SCHEMA, SPLITS
from ness_cli.data.tasks.plan import Splits, TaskPlan
from ness_cli.data.tasks.sampling import split_off, valid_count
from ness_cli.errors import DamagedError, SettingsError, SystemRefusedError
from ness_cli.files import read_json, write_json
from ness_cli.hashing import sha256_of_text
from ness_cli.settings.sources.base import DatasetSettings, DataSettings
from ness_cli.words import counted

if TYPE_CHECKING:
    from ness_cli.console import Progress

# Of what an entry is made from, newest first; a new one when the same settings and content would
# give other tensors. Runs prepared in an older format keep its key: 2 could take a class with very
# few images out of training, and is the same otherwise.
_FORMATS = (3, 2)
_BYTES_PER_LABEL = 8
_REMEDY = "prepare the images again"

Manifest = dict[str, Any]
Constants = tuple[list[float] | None, list[float] | None]  # mean and std per channel


def prepare(
    options: DataSettings,
    cache: Path,
    progress: Progress,
    *,
    contents: Sequence[str] | None = None,
    key: str | None = None,
) -> Manifest:
    """Make sure that the task stream is in the cache, and describe it.

    A complete entry is used as it is, after checking the hash of every file; an incomplete or
    damaged one is made anew. Processes that prepare the same stream wait for each other.

    Args:
        options: The options of a data source.
        cache: Folder of prepared data, shared by runs; made if missing.
        progress: Told what is going on.
        contents: The hashes of the source's files, where they are known already.
        key: Key that a stream of the same files and settings has already, maybe of an older
            format.

    Returns:
        The manifest: key, hashes of the source's files, shape of images, and per task its name,
        classes and their counts (before validation images are set aside), constants of
        normalisation and files with count, size in bytes and SHA-256. It has no absolute path.

    Raises:
        InputError: If images are missing or cannot be read, or a task would have none.
        SettingsError: If the settings do not fit the data.
        SystemRefusedError: If the cache cannot be written.
    """
    if contents is None:
        contents = content_hashes(options.datasets(), progress)
    key = key or keys(options, contents)[0]
    folder = cache / key[:FOLDER_LENGTH]
    with _locked(cache / f"{key[:FOLDER_LENGTH]}.lock", progress):
        try:
            stored = prepared(cache, key)
        except DamagedError as error:
            progress.note(f"{error.what}; the images are prepared again")
            stored = None
        if stored is not None:
            return stored
        with opened_stream(options, progress) as (planned, images):
            tasks = _write(planned, images, folder, key)
        manifest = {
            "schema": SCHEMA,
            "key": key,
            "content": content_of_all(contents),
            "contents": list(contents),
            "source": options.source,
            "image_shape": list(planned.image_shape),
            "shared_labels": planned.shared_labels,
            "tasks": tasks,
            "left_out": list(planned.left_out),
        }
        with _refusals(folder):
            write_json(folder / "stream.json", manifest)
        return manifest


def prepared(cache: Path, key: str) -> Manifest | None:
    """Return the manifest of a stream that is in the cache, its files verified, else ``None``.

    It needs neither the settings nor the images that the stream was prepared from.

    Raises:
        DamagedError: If files are missing or not as they were written; names the first.
        InputError: If one cannot be read.
    """
    folder = cache / key[:FOLDER_LENGTH]
    path = folder / "stream.json"
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise DamagedError(f"the prepared images in {folder} are incomplete", _REMEDY)
        return None
    manifest = read_json(path, remedy=_REMEDY)
    try:
        is_known = (manifest["schema"], manifest["key"]) == (SCHEMA, key)
        records = [each for task in manifest["tasks"] for each in task["splits"].values()]
        files = [(folder / each["file"], each["bytes"], each["sha256"]) for each in records]
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} is damaged: it does not describe a stream", _REMEDY) from error
    if not is_known:
        raise DamagedError(f"{path} belongs to another stream or version", _REMEDY)
    for file, size, sha256 in files:
        if not file.is_file():
            raise DamagedError(f"{file} is missing", _REMEDY)
        if file.stat().st_size != size or readable_sha256(file) != sha256:
            raise DamagedError(f"{file} is damaged", _REMEDY)
    return manifest


def keys(options: DataSettings, contents: Sequence[str]) -> list[str]:
    """Return the keys that a stream may have in the cache, that of new ones first.

    Args:
        options: The options of a data source.
        contents: The hash of every data set's files.
    """
    content, settings = content_of_all(contents), options.identity()
    texts = [
        json.dumps({"format": each, "settings": settings, "content": content}, sort_keys=True)
        for each in _FORMATS
    ]
    return [sha256_of_text(text) for text in texts]


def plan(options: DataSettings) -> Manifest:
    """Return the manifest that ``prepare`` would, as far as listings tell, writing nothing.

    It has neither key nor hashes; ``bytes`` counts tensors without a file's header, and constants
    of normalisation that would have to be computed are ``None``. ``missing`` says what keeps data
    sets of a sequence from being listed.

    Raises:
        InputError: If images are missing, or a task would have none.
        SettingsError: If the settings do not fit the data.
    """
    planned = plan_stream(options)
    channels, height, width = planned.image_shape
    per_image = channels * height * width + _BYTES_PER_LABEL
    tasks = []
    for task_number, task in enumerate(planned.tasks, 1):
        counts = {split: sum(task.counts(split)) for split in SPLITS}
        if task.positions("valid") is None:
            fraction = task.options.valid_fraction
            counts["valid"] = valid_count(counts["train"], len(task.classes), fraction)
            counts["train"] -= counts["valid"]
        splits = {
            name: {"count": count, "bytes": count * per_image} for name, count in counts.items()
        }
        constants = _given_constants(task.options, channels)
        tasks.append(_task_entry(task_number, task, constants, splits))
    return {
        "schema": SCHEMA,
        "source": options.source,
        "image_shape": [channels, height, width],
        "shared_labels": planned.shared_labels,
        "tasks": tasks,
        "left_out": list(planned.left_out),
        "missing": [{"what": error.what, "remedy": error.remedy} for error in planned.missing],
    }


def channel_statistics(images: torch.Tensor) -> tuple[list[float], list[float]]:
    """Return mean and population standard deviation per channel, of values scaled to 0..1.

    Computed in float64 from counts of the 256 values, so that neither the order of images nor the
    number of threads changes a bit. A channel without variation gets the deviation 1: dividing by
    0 would make it NaN, and it is 0 everywhere once its mean is subtracted.

    Args:
        images: uint8 ``[n, c, h, w]``.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in images.unbind(1):
        frequencies = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        centre = float(frequencies @ values)
        spread = float((frequencies @ (values - centre) ** 2).sqrt())
        is_constant = bool(channel.min() == channel.max())
        mean.append(centre)
        std.append(1.0 if is_constant else spread)
    return mean, std


# -- writing -------------------------------------------------------------------------------------


def _write(
    planned: StreamPlan, images: Iterator[Splits], folder: Path, key: str
) -> list[dict[str, Any]]:
    """Write the images of every task, and return what the manifest says of the tasks."""
    with _refusals(folder):
        # First of all: what is written over must not look complete meanwhile.
        (folder / "stream.json").unlink(missing_ok=True)
    tasks = []
    constants: dict[int, Constants] = {}
    for task_number, (task, found) in enumerate(zip(planned.tasks, images, strict=True), 1):
        splits = _splits(task, found)
        if task.dataset not in constants:
            mean, std = _given_constants(task.options, planned.image_shape[0])
            computed_mean, computed_std = channel_statistics(splits["train"]["images"])
            constants[task.dataset] = (mean or computed_mean, std or computed_std)
        files = {}
        for split, tensors in splits.items():
            path = folder / f"task-{task_number:02d}-{split}.safetensors"
            identity = {"kind": "images", "split": split, "stream": key, "task": task_number}
            with _refusals(path):
                sha256 = tensor_files.write(path, tensors, identity)
                files[split] = {
                    "file": path.name,
                    "count": len(tensors["labels"]),
                    "bytes": path.stat().st_size,
                    "sha256": sha256,
                }
        tasks.append(_task_entry(task_number, task, constants[task.dataset], files))
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


def _task_entry(
    task_number: int, task: TaskPlan, constants: Constants, splits: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "number": task_number,
        "name": task.name,
        "classes": list(task.classes),
        "class_counts": {split: list(task.counts(split)) for split in ("train", "test")},
        "mean": constants[0],
        "std": constants[1],
        "splits": dict(splits),
    }


def _given_constants(options: DatasetSettings, channels: int) -> Constants:
    for name, values in (("mean", options.mean), ("std", options.std)):
        if values is not None and len(values) != channels:
            raise SettingsError(
                f"data.{name}: {counted(len(values), 'value')}, but images have "
                f"{counted(channels, 'channel')}",
                "give one value per channel, or none to compute them",
            )
    if options.std is not None and min(options.std) <= 0:
        raise SettingsError(f"data.std: {min(options.std)} is not above 0", "give a positive value")
    mean = None if options.mean is None else list(options.mean)
    return mean, None if options.std is None else list(options.std)


# -- the cache -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    lock = filelock.FileLock(path)
    with _refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress.note("another process prepares the same images; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SystemRefusedError(
            f"{path} cannot be written: {error.strerror or error}",
            "free some space, or point NESS_CACHE to another folder",
        ) from error
