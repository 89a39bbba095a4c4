"""Your own images in a directory, a zip or a tar, or in several of them.

Only the images that the tasks need are opened: a limit or a number of tasks saves their decoding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ness_cli.console import Progress
from ness_cli.data.dataset import Dataset
from ness_cli.data.formats.archive import Storage, locate, opened_storages
from ness_cli.data.formats.bad_files import BadFile, ImageFile, examine, refusal
from ness_cli.data.formats.content import sha256_of_paths
from ness_cli.data.formats.decoded import DecodedDataset, ImageKey
from ness_cli.data.formats.folder import Listing, arrange
from ness_cli.data.formats.image import Form, is_grey
from ness_cli.errors import SettingsError, UnreadableError
from ness_cli.hashing import sha256_of_text
from ness_cli.settings.sources.image_folder import Options


def content_hash(options: Options, progress: Progress) -> str:
    """Return the SHA-256 of all directories and archives, streamed.

    Raises:
        InputError: If one is missing or cannot be read.
        SettingsError: If a path is given twice.
    """
    paths = locate(options.path)
    content = sha256_of_paths(paths, progress)
    with opened_storages(paths) as storages:
        has_valid = "valid" in arrange(storages).splits
    # The same files once gave a stream in which a validation folder was left alone.
    return sha256_of_text(f"{content} with validation") if has_valid else content


@contextlib.contextmanager
def opened(options: Options, progress: Progress | None) -> Iterator[Dataset]:
    """Provide the images, listed and not yet decoded.

    Raises:
        InputError: If the images cannot be listed or do not make a data set.
        SettingsError: If a path is given twice, or a pattern excludes nothing.
    """
    with listed(options, progress) as (storages, listing):
        _refuse_unused(listing)
        yield FolderDataset(storages, listing, options, progress or Progress())


@contextlib.contextmanager
def listed(options: Options, progress: Progress | None) -> Iterator[tuple[list[Storage], Listing]]:
    """Provide the open storages, and which image is where; errors as in ``opened``."""
    with opened_storages(locate(options.path)) as storages:
        listing = arrange(storages, exclude=options.exclude or ())
        if progress is not None:
            for folder in listing.ignored:
                progress.note(f"{folder} is ignored: only train, val and test are read")
        yield storages, listing


class FolderDataset(DecodedDataset):
    """Image files, class by class.

    Args:
        storages: The open storages.
        listing: Which image is where.
        options: Size and channels to bring the images to, and what to do with bad files.
        progress: Told what is going on.

    Raises:
        InputError: If files cannot be used; it names all of them.
    """

    def __init__(
        self,
        storages: Sequence[Storage],
        listing: Listing,
        options: Options,
        progress: Progress,
    ) -> None:
        self._storages, self._options, self._progress = storages, options, progress
        self._listed = listing
        skips = options.on_error == "skip"
        bad = [*listing.misplaced, *([] if skips else listing.no_images)]
        unreadable = self._unreadable() if skips or bad else []
        if bad:
            raise refusal([*bad, *unreadable], options.exclude or ())
        self.left_out = tuple(file.path for file in (*listing.no_images, *unreadable))
        listing = listing.without(unreadable)
        names = sorted({name for classes in listing.splits.values() for name in classes})
        self._files = {
            split: [file for name in names for file in classes.get(name, ())]
            for split, classes in listing.splits.items()
        }
        labels = {
            split: torch.arange(len(names)).repeat_interleave(
                torch.tensor([len(classes.get(name, ())) for name in names])
            )
            for split, classes in listing.splits.items()
        }
        with self._all_named():
            super().__init__(names, labels, options)

    def images(
        self, split: str, positions: torch.Tensor, advance: Callable[[int], object]
    ) -> torch.Tensor:
        """Return images; an error names all files that cannot be read."""
        with self._all_named():
            return super().images(split, positions, advance)

    def decode(self, key: ImageKey, form: Form) -> NDArray[np.uint8]:
        """Return an image brought to a form; errors name the file."""
        with self._storage(key).open(self._file(key).name) as data:
            return form.of_file(data, self.describe(key))

    def is_grey(self, key: ImageKey) -> bool:
        """Return whether an image is stored as grey, from its header; errors name the file."""
        with self._storage(key).open(self._file(key).name) as data:
            return is_grey(data, self.describe(key))

    def describe(self, key: ImageKey) -> str:
        """Return the path of an image, inside of its archive if it lies in one."""
        return self._storage(key).describe(self._file(key).name)

    def in_reading_order(self, keys: Iterable[ImageKey]) -> list[ImageKey]:
        """Return keys in the order of their archives."""

        def order(key: ImageKey) -> tuple[int, int]:
            file = self._file(key)
            return file.storage, file.position

        return sorted(keys, key=order)

    @contextlib.contextmanager
    def _all_named(self) -> Iterator[None]:
        """Look through all files when one cannot be read: the next attempt is not to find more."""
        try:
            yield
        except UnreadableError as error:
            bad = self._unreadable()
            raise (refusal(bad, self._options.exclude or ()) if bad else error) from error

    def _unreadable(self) -> list[BadFile]:
        files = list(self._listed.files())
        with self._progress.track("looking for images that cannot be read", len(files)) as advance:
            found = examine(self._storages, files, advance)
            return [file for file in found if isinstance(file, BadFile)]

    def _file(self, key: ImageKey) -> ImageFile:
        split, position = key
        return self._files[split][position]

    def _storage(self, key: ImageKey) -> Storage:
        return self._storages[self._file(key).storage]


def _refuse_unused(listing: Listing) -> None:
    """Refuse patterns that leave nothing out: they were meant for something."""
    if listing.unused:
        one = len(listing.unused) == 1
        raise SettingsError(
            f"data.exclude: {', '.join(map(repr, listing.unused))} match{'es' if one else ''} no"
            " file",
            "a pattern is CLASS/NAME or train/CLASS/NAME, * allowed, or left out",
        )
