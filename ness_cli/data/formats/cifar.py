"""The archives of CIFAR-10 and CIFAR-100, or the folders unpacked from them.

Krizhevsky 2009. Each member is a pickled dict of ``data``, uint8 ``[n, 3072]`` in colour planes,
and a list of labels; torchvision's own class would unpickle it without restriction.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ness_cli.data.dataset import ArrayDataset, Dataset
from ness_cli.data.formats import safe_pickle
from ness_cli.data.formats.archive import Storage, opened_storages
from ness_cli.data.formats.content import sha256_of_paths
from ness_cli.data.formats.download import PublicFile, find_or_fetch
from ness_cli.data.formats.labels import Arrays, joined, whole_numbers
from ness_cli.errors import InputError
from ness_cli.settings.sources.base import PublicSettings
from ness_cli.words import counted

if TYPE_CHECKING:
    from ness_cli.console import Progress

URL = "https://www.cs.toronto.edu/~kriz/"
_SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Archive:
    """What the archive of one of the two data sets holds.

    Attributes:
        title: What messages call it.
        file: The archive.
        train: Names of the members with training images.
        test: Name of the member with test images.
        meta: Name of the member with the names of the classes, and their key in it.
        labels: Key of the labels.
    """

    title: str
    file: PublicFile
    train: tuple[str, ...]
    test: str
    meta: tuple[str, str]
    labels: str

    def locate(self, options: PublicSettings, progress: Progress | None) -> Path:
        """Return the archive or the folder unpacked from it; errors as in ``find_or_fetch``."""
        (path,) = find_or_fetch([self.file], options, progress, title=self.title)
        return path

    def content_hash(self, options: PublicSettings, progress: Progress) -> str:
        """Return the SHA-256 of the archive or folder."""
        return sha256_of_paths([self.locate(options, progress)], progress)

    @contextlib.contextmanager
    def opened(self, options: PublicSettings, progress: Progress | None) -> Iterator[Dataset]:
        """Provide the images.

        Raises:
            InputError: If files are missing, damaged, or not what they should be.
        """
        path = self.locate(options, progress)
        with opened_storages([path]) as (storage,):
            names = _member(storage, self.meta[0]).get(self.meta[1])
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise InputError(
                    f"{storage.describe(self.meta[0])} has no list {self.meta[1]!r}",
                    "get the archive again",
                )
            train = joined(
                (storage.describe(member), self._split(storage, member)) for member in self.train
            )
            yield ArrayDataset(str(path), names, train, self._split(storage, self.test), options)

    def _split(self, storage: Storage, member: str) -> Arrays:
        content, name = _member(storage, member), storage.describe(member)
        data, labels = content.get("data"), content.get(self.labels)
        if (
            not isinstance(data, np.ndarray)
            or data.dtype != np.uint8
            or data.ndim != 2
            or data.shape[1] != math.prod(_SHAPE)
            or not isinstance(labels, list)
        ):
            raise InputError(
                f"{name} has no 'data' of bytes [n, 3072] and {self.labels!r}",
                f"get {self.file.name} again",
            )
        numbers = whole_numbers(labels, f"{name}: {self.labels}")
        return torch.from_numpy(data.reshape(-1, *_SHAPE).copy()), numbers


def _member(storage: Storage, name: str) -> dict[str, Any]:
    """Return the dict pickled in a member, which may lie in a folder of the archive."""
    matches = [each for each in storage.names() if each.split("/")[-1] == name]
    if len(matches) != 1:
        raise InputError(
            f"{storage.path} has {counted(len(matches), 'file')} called {name!r}, not one",
            "get the archive again",
        )
    with storage.open(matches[0]) as file:
        content = safe_pickle.load(file, storage.describe(matches[0]))
    if not isinstance(content, dict):
        raise InputError(f"{storage.describe(name)} holds no dict", "get the archive again")
    return content
