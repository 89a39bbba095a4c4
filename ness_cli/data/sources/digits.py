"""1797 handwritten digits, 8 x 8 pixels, embedded in scikit-learn.

Values 0..16 become 0..255. The test images are the same in every permuted task, and so are the
validation images: no digit is seen in training under one permutation and tested under another.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.datasets import load_digits

from ness_cli import seeding
from ness_cli.data.raw import RawStream, RawTask, StreamOutline, TaskOutline
from ness_cli.data.shares import floor_share, pick
from ness_cli.errors import SettingsError
from ness_cli.settings.sources.digits import Options

if TYPE_CHECKING:
    from ness_cli.console import Progress

_SHAPE = (1, 8, 8)
_CLASSES_PER_SPLIT_TASK = 2
_PERMUTATIONS = 10  # tasks of the permuted protocol, unless data.num_tasks says otherwise


def content_hash(options: Options, progress: Progress) -> str:
    """Return the SHA-256 of all images and labels."""
    images, labels = _load()
    return hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()


def outline(options: Options) -> StreamOutline:
    """Return names and counts of the tasks.

    Raises:
        SettingsError: If there are more tasks than digits to split.
    """
    tasks = (
        TaskOutline(task.name, task.classes, len(task.train_labels), len(task.test_labels))
        for task in _tasks(options)
    )
    return StreamOutline(_SHAPE, _shares_labels(options), tuple(tasks))


@contextlib.contextmanager
def read(options: Options, progress: Progress) -> Iterator[RawStream]:
    """Provide the stream inside the block.

    Raises:
        SettingsError: If there are more tasks than digits to split.
    """
    yield RawStream(_SHAPE, _shares_labels(options), _tasks(options))


def _shares_labels(options: Options) -> bool:
    return options.protocol == "permuted"


def _tasks(options: Options) -> Iterator[RawTask]:
    images, labels = _load()
    generator = seeding.generator(options.split_seed, "test-split")
    test, train = pick(len(labels), floor_share(len(labels), options.test_fraction), generator)
    whole = RawTask(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
    )
    if options.protocol == "split":
        return _split(whole, options.num_tasks or len(whole.classes) // _CLASSES_PER_SPLIT_TASK)
    return _permuted(whole, options)


def _permuted(whole: RawTask, options: Options) -> Iterator[RawTask]:
    for number in range(1, (options.num_tasks or _PERMUTATIONS) + 1):
        generator = seeding.generator(options.split_seed, "permutation", number)
        order = torch.randperm(64, generator=generator)
        yield RawTask(
            name=f"permutation-{number}",
            classes=whole.classes,
            train_images=whole.train_images.flatten(1)[:, order].reshape(-1, *_SHAPE),
            train_labels=whole.train_labels,
            test_images=whole.test_images.flatten(1)[:, order].reshape(-1, *_SHAPE),
            test_labels=whole.test_labels,
        )


def _split(whole: RawTask, num_tasks: int) -> Iterator[RawTask]:
    most = len(whole.classes) // _CLASSES_PER_SPLIT_TASK
    if num_tasks > most:
        raise SettingsError(
            f"data.num_tasks: {num_tasks} tasks, but ten digits make {most} of two",
            f"set data.num_tasks={most}, or data.protocol=permuted",
        )
    return (_pair(whole, 2 * index) for index in range(num_tasks))


def _pair(whole: RawTask, first: int) -> RawTask:
    classes = whole.classes[first : first + _CLASSES_PER_SPLIT_TASK]
    train = whole.train_labels // _CLASSES_PER_SPLIT_TASK == first // _CLASSES_PER_SPLIT_TASK
    test = whole.test_labels // _CLASSES_PER_SPLIT_TASK == first // _CLASSES_PER_SPLIT_TASK
    return RawTask(
        name="-".join(classes),
        classes=classes,
        train_images=whole.train_images[train],
        train_labels=whole.train_labels[train] - first,
        test_images=whole.test_images[test],
        test_labels=whole.test_labels[test] - first,
    )


def _load() -> tuple[torch.Tensor, torch.Tensor]:
    """Return uint8 images ``[1797, 1, 8, 8]`` and int64 labels ``[1797]``."""
    bunch = load_digits()
    values = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return torch.from_numpy(values).reshape(-1, *_SHAPE), labels
