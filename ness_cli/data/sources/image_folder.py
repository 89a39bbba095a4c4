"""Your own images in a directory, a zip or a tar, or in several of them.

Only the images that the tasks need are opened: a limit or a number of tasks saves their decoding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ness_cli.data import pixels
from ness_cli.data.content import sha256_of_paths
from ness_cli.data.dataset import Dataset, size_of
from ness_cli.data.layout import Classes, ImageFile, Listing, arrange
from ness_cli.data.storage import Storage, locate, opened_storages
from ness_cli.errors import InputError
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

    One image is decoded for the shape, unless the size is set; the headers of the others are read
    for as long as all are grey, unless the channels are set.

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


class FolderDataset(Dataset):
    """Images that are decoded when they are asked for.

    Args:
        storages: The open storages.
        listing: Which image is where.
        options: Size and channels to bring the images to.

    Raises:
        InputError: If the first image cannot be read.
    """

    def __init__(self, storages: Sequence[Storage], listing: Listing, options: Options) -> None:
        self._storages = storages
        by_split: dict[str, Classes] = {"train": listing.train}
        if listing.test is not None:
            by_split["test"] = listing.test
        self.classes = tuple(sorted({name for classes in by_split.values() for name in classes}))
        self._files = {
            split: [file for name in self.classes for file in classes.get(name, ())]
            for split, classes in by_split.items()
        }
        self._labels = {
            split: torch.arange(len(self.classes)).repeat_interleave(
                torch.tensor([len(classes.get(name, ())) for name in self.classes])
            )
            for split, classes in by_split.items()
        }
        with pixels.pillow_warnings():
            self._form, self._first = self._find_form(options)
        self.image_shape = self._form.shape

    def labels(self, split: str) -> torch.Tensor | None:
        """Return the label of every image, int64 ``[n]``, class by class."""
        return self._labels.get(split)

    def images(
        self, split: str, positions: torch.Tensor, advance: Callable[[int], object]
    ) -> torch.Tensor:
        """Return images in the order asked for, read in the order of their archives.

        Raises:
            InputError: If one cannot be read, or has another size than the first.
        """
        files = [self._files[split][position] for position in positions.tolist()]
        out = np.empty((len(files), *self.image_shape), np.uint8)
        rows = sorted(range(len(files)), key=lambda i: (files[i].storage, files[i].position))
        with pixels.pillow_warnings():
            for row in rows:
                out[row] = self._decoded(files[row])
                advance(1)
        return torch.from_numpy(out)

    def _find_form(self, options: Options) -> tuple[pixels.Form, str]:
        """Return what images are brought to, and what messages call the first of them."""
        files = [file for files in self._files.values() for file in files]
        files.sort(key=lambda file: (file.storage, file.position))
        channels = {"grey": 1, "rgb": 3}.get(options.channels)
        if channels is None:
            channels = 1 if all(self._is_grey(file) for file in files) else 3
        form = pixels.Form(channels, size_of(options), options.fit)
        storage, name = self._storages[files[0].storage], files[0].name
        if form.size is None:
            with storage.open(name) as data:
                _, height, width = form.of_file(data, storage.describe(name)).shape
            form = pixels.Form(channels, (height, width), options.fit)
            # Differing sizes are refused and not resized: nobody asked for it.
            self._exact = True
        else:
            self._exact = False
        return form, storage.describe(name)

    def _is_grey(self, file: ImageFile) -> bool:
        storage = self._storages[file.storage]
        with storage.open(file.name) as data:
            return pixels.is_grey(data, storage.describe(file.name))

    def _decoded(self, file: ImageFile) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        storage = self._storages[file.storage]
        name = storage.describe(file.name)
        form = self._form
        if self._exact:
            form = pixels.Form(form.channels, None)
        with storage.open(file.name) as data:
            image = form.of_file(data, name)
        if image.shape != self.image_shape:
            (_, height, width), (_, first_height, first_width) = image.shape, self.image_shape
            raise InputError(
                f"images differ in size: {self._first} is {first_height} x {first_width},"
                f" {name} is {height} x {width} (height x width)",
                "set data.size, for example data.size=32",
            )
        return image
