"""The 1797 handwritten digits that come with scikit-learn, permuted or split into tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import torch
from sklearn.datasets import load_digits

from ness_cli import seeding
from ness_cli.data.raw import RawSplit, RawStream, RawTask
from ness_cli.errors import SettingsError
from ness_cli.settings.sources.digits import Options

SIDE = 8


def _load() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images uint8 ``[n, 1, 8, 8]``, from 0..16 stretched to 0..255, and labels."""
    data = load_digits()
    images = torch.from_numpy(data.images).double()
    return (images * 255 / 16).round().to(torch.uint8)[:, None], torch.from_numpy(data.target).long()


def content_hash(options: Options) -> str:
    """Return the SHA-256 of images and labels."""
    images, labels = _load()
    return hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()


def permutation(options: Options, task: int) -> torch.Tensor:
    """Return the pixel order of a task, int64 ``[64]``; fixed by ``split_seed``."""
    generator = seeding.generator(options.split_seed, "permutation", task)
    return torch.randperm(SIDE * SIDE, generator=generator)


def read(options: Options) -> RawStream:
    """Return the stream; the same images are for testing in every task.

    Raises:
        SettingsError: If ``split`` is asked for more than five tasks.
    """
    images, labels = _load()
    generator = seeding.generator(options.split_seed, "test-split")
    order = torch.randperm(len(labels), generator=generator)
    num_test = int(len(labels) * options.test_fraction)
    index = {"test": order[:num_test].sort().values, "train": order[num_test:].sort().values}
    splits = {name: RawSplit(images[rows], labels[rows]) for name, rows in index.items()}
    if options.protocol == "permuted":
        tasks = [_permuted(options, number, splits) for number in range(1, (options.num_tasks or 10) + 1)]
    else:
        asked = options.num_tasks or 5
        if asked > 5:
            raise SettingsError(f"data.num_tasks: {asked} tasks, but ten digits in twos make five")
        tasks = [_pair(number, splits) for number in range(1, asked + 1)]
    return RawStream(tuple(tasks), (1, SIDE, SIDE), shared_labels=options.protocol == "permuted")


def _permuted(options: Options, number: int, splits: dict[str, RawSplit]) -> RawTask:
    order = permutation(options, number)

    def images_of(split: str, advance: Callable[[int], None]) -> RawSplit:
        whole = splits[split]
        advance(len(whole.labels))
        shuffled = whole.images.flatten(1)[:, order].view_as(whole.images)
        return RawSplit(shuffled.contiguous(), whole.labels)

    counts = (len(splits["train"].labels), len(splits["test"].labels))
    return RawTask(f"permutation {number}", tuple("0123456789"), *counts, images_of)


def _pair(number: int, splits: dict[str, RawSplit]) -> RawTask:
    first = 2 * (number - 1)
    pick = partial(_of_pair, splits, first)
    counts = [len(pick(split, lambda _: None).labels) for split in ("train", "test")]
    return RawTask(f"{first} and {first + 1}", (str(first), str(first + 1)), *counts, pick)


def _of_pair(
    splits: dict[str, RawSplit], first: int, split: str, advance: Callable[[int], None]
) -> RawSplit:
    whole = splits[split]
    rows = (whole.labels == first) | (whole.labels == first + 1)
    advance(int(rows.sum()))
    return RawSplit(whole.images[rows].contiguous(), whole.labels[rows] - first)
