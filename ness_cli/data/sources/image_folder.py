"""Your own images in a directory, a zip or a tar, or in several of them.

Only the images that the tasks need are opened: a limit or a number of tasks saves their decoding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ness_cli.data import pixels
from ness_cli.data.content import sha256_of_paths
from ness_cli.data.dataset import Dataset
from ness_cli.data.decoded import DecodedDataset, Place
from ness_cli.data.layout import Classes, ImageFile, Listing, arrange
from ness_cli.data.storage import Storage, locate, opened_storages
from ness_cli.settings.sources.image_folder import Options

if TYPE_CHECKING:
    from ness_cli.console import Progress


def content_hash(options: Options, progress: Progress) -> str:
    """Return the SHA-256 of all directories and archives, streamed.

    Raises:
        InputError: If one is missing or cannot be read.
        SettingsError: If a path is given twice.
    """
    return sha256_of_paths(locate(options.path), progress)


@contextlib.contextmanager
def opened(options: Options, progress: Progress | None) -> Iterator[Dataset]:
    """Provide the images, listed and not yet decoded.

    Raises:
        InputError: If the images cannot be listed or do not make a data set.
        SettingsError: If a path is given twice.
    """
    with opened_storages(locate(options.path)) as storages:
        listing = arrange(storages, exclude=options.exclude or ())
        if progress is not None:
            for folder in listing.ignored:
                progress.note(f"{folder} is ignored: only train and test are read")
        yield FolderDataset(storages, listing, options)


class FolderDataset(DecodedDataset):
    """Image files, class by class.

    Args:
        storages: The open storages.
        listing: Which image is where.
        options: Size and channels to bring the images to.

    Raises:
        InputError: If the first image cannot be read.
    """

    def __init__(self, storages: Sequence[Storage], listing: Listing, options: Options) -> None:
        by_split: dict[str, Classes] = {"train": listing.train}
        if listing.test is not None:
            by_split["test"] = listing.test
        names = sorted({name for classes in by_split.values() for name in classes})
        self._storages = storages
        self._files = {
            split: [file for name in names for file in classes.get(name, ())]
            for split, classes in by_split.items()
        }
        labels = {
            split: torch.arange(len(names)).repeat_interleave(
                torch.tensor([len(classes.get(name, ())) for name in names])
            )
            for split, classes in by_split.items()
        }
        super().__init__(names, labels, options)

    def decode(self, place: Place, form: pixels.Form) -> NDArray[np.uint8]:
        """Return an image brought to a form; errors name the file."""
        with self._storage(place).open(self._file(place).name) as data:
            return form.of_file(data, self.describe(place))

    def is_grey(self, place: Place) -> bool:
        """Return whether an image is stored as grey, from its header; errors name the file."""
        with self._storage(place).open(self._file(place).name) as data:
            return pixels.is_grey(data, self.describe(place))

    def describe(self, place: Place) -> str:
        """Return the path of an image, inside of its archive if it lies in one."""
        return self._storage(place).describe(self._file(place).name)

    def in_reading_order(self, places: Iterable[Place]) -> list[Place]:
        """Return places in the order of their archives."""

        def order(place: Place) -> tuple[int, int]:
            file = self._file(place)
            return file.storage, file.position

        return sorted(places, key=order)

    def _file(self, place: Place) -> ImageFile:
        split, position = place
        return self._files[split][position]

    def _storage(self, place: Place) -> Storage:
        return self._storages[self._file(place).storage]
