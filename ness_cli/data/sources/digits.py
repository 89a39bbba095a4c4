"""1797 handwritten digits, 8 x 8 pixels, embedded in scikit-learn; values 0..16 become 0..255."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.datasets import load_digits

from ness_cli.data.dataset import ArrayDataset, Dataset
from ness_cli.settings.sources.digits import Options

if TYPE_CHECKING:
    from ness_cli.console import Progress

_NUM_CLASSES = 10


def content_hash(options: Options, progress: Progress) -> str:
    """Return the SHA-256 of all images and labels."""
    images, labels = _load()
    return hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()


@contextlib.contextmanager
def opened(options: Options, progress: Progress | None) -> Iterator[Dataset]:
    """Provide the digits; they have no test images of their own."""
    yield ArrayDataset("digits", [str(d) for d in range(_NUM_CLASSES)], _load(), None, options)


def _load() -> tuple[torch.Tensor, torch.Tensor]:
    """Return uint8 images ``[1797, 1, 8, 8]`` and int64 labels ``[1797]``."""
    bunch = load_digits()
    values = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return torch.from_numpy(values)[:, None], labels
