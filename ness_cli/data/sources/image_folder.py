"""Your own images in a directory, a zip or a tar, or in several of them, cut into tasks by class.

Only the images that the tasks need are opened: a limit or a number of tasks saves their decoding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ness_cli import seeding
from ness_cli.data import pixels
from ness_cli.data.content import sha256_of_paths
from ness_cli.data.cut import deal
from ness_cli.data.layout import Classes, ImageFile, Listing, arrange
from ness_cli.data.raw import RawStream, RawTask, StreamOutline, TaskOutline
from ness_cli.data.shares import floor_share, pick
from ness_cli.data.storage import Storage, locate, opened
from ness_cli.errors import InputError, SettingsError
from ness_cli.settings.sources.image_folder import Options

if TYPE_CHECKING:
    from ness_cli.console import Progress


@dataclass(frozen=True)
class _Selected:
    """The image files of a task, one list per class."""

    name: str
    classes: tuple[str, ...]
    train: list[list[ImageFile]]
    test: list[list[ImageFile]]

    def files(self) -> list[ImageFile]:
        return [image for images in (*self.train, *self.test) for image in images]


def content_hash(options: Options, progress: Progress) -> str:
    """Return the SHA-256 of all directories and archives, streamed.

    Raises:
        InputError: If one is missing or cannot be read.
        SettingsError: If a path is given twice.
    """
    return sha256_of_paths(locate(options.path), progress)


def outline(options: Options) -> StreamOutline:
    """Return names, counts and the shape of images, mostly from listings.

    One image is decoded for the shape, unless the size is set; the headers of the others are read
    for as long as all are grey, unless the channels are set.

    Raises:
        InputError: If the images cannot be listed or do not make a data set.
        SettingsError: If the classes cannot be dealt to tasks.
    """
    with opened(locate(options.path)) as storages, pixels.pillow_warnings():
        tasks = _select(arrange(storages), options)
        shape = _image_shape(_in_reading_order(tasks), storages, options)
    outlines = (
        TaskOutline(task.name, task.classes, sum(map(len, task.train)), sum(map(len, task.test)))
        for task in tasks
    )
    return StreamOutline(shape, False, tuple(outlines))


@contextlib.contextmanager
def read(options: Options, progress: Progress) -> Iterator[RawStream]:
    """Provide the stream inside the block, each task decoded when it is asked for.

    Raises:
        InputError: If an image cannot be read, or has another size than the first.
        SettingsError: If the classes cannot be dealt to tasks.
    """
    with opened(locate(options.path)) as storages:
        listing = arrange(storages)
        for folder in listing.ignored:
            progress.note(f"{folder} is ignored: only train and test are read")
        tasks = _select(listing, options)
        files = _in_reading_order(tasks)
        with pixels.pillow_warnings():
            shape = _image_shape(files, storages, options)
        first = storages[files[0].storage].describe(files[0].name)
        with progress.track("reading images", len(files)) as advance:
            reader = _Reader(storages, shape, options, first, advance)
            yield RawStream(shape, False, (reader.task(task) for task in tasks))


def _select(listing: Listing, options: Options) -> list[_Selected]:
    train, test = _two_splits(listing, options)
    tasks, start = [], 0
    for classes in deal(list(train), options):
        name = f"classes-{start + 1}-{start + len(classes)}"
        start += len(classes)
        limited = [_limited(train[each], each, options) for each in classes]
        tasks.append(_Selected(name, classes, limited, [test[each] for each in classes]))
    return tasks


def _two_splits(listing: Listing, options: Options) -> tuple[Classes, Classes]:
    if listing.test is None:
        return _stratified(listing.train, options)
    if options.test_fraction is not None:
        raise SettingsError(
            f"data.test_fraction: {options.test_fraction}, but the data has a test folder",
            "leave data.test_fraction out",
        )
    one_sided = sorted(listing.train.keys() ^ listing.test.keys())
    if one_sided:
        there, missing = ("train", "test") if one_sided[0] in listing.train else ("test", "train")
        more = f" (and {len(one_sided) - 1} more)" if len(one_sided) > 1 else ""
        raise InputError(
            f"class {one_sided[0]!r} has images in {there} and none in {missing}{more}",
            "add its images, or remove the class",
        )
    return listing.train, listing.test


def _stratified(classes: Classes, options: Options) -> tuple[Classes, Classes]:
    """Set a share of every class aside for testing, at least one image of each."""
    if options.test_fraction is None:
        raise InputError(
            "data.path: there is no test folder",
            "set data.test_fraction, for example data.test_fraction=0.2",
        )
    train, test = {}, {}
    for name, images in classes.items():
        if len(images) < 2:
            raise InputError(
                f"class {name!r} has {len(images)} image, too few for training and testing",
                "add images, or remove the class",
            )
        number = max(1, floor_share(len(images), options.test_fraction))
        generator = seeding.generator(options.split_seed, f"test-split/{name}")
        aside, rest = pick(len(images), number, generator)
        test[name] = [images[i] for i in aside.tolist()]
        train[name] = [images[i] for i in rest.tolist()]
    return train, test


def _limited(images: list[ImageFile], name: str, options: Options) -> list[ImageFile]:
    if options.limit_per_class is None or len(images) <= options.limit_per_class:
        return images
    generator = seeding.generator(options.split_seed, f"limit/{name}")
    chosen, _ = pick(len(images), options.limit_per_class, generator)
    return [images[i] for i in chosen.tolist()]


def _in_reading_order(tasks: Sequence[_Selected]) -> list[ImageFile]:
    files = [image for task in tasks for image in task.files()]
    return sorted(files, key=lambda image: (image.storage, image.position))


def _image_shape(
    files: Sequence[ImageFile], storages: Sequence[Storage], options: Options
) -> tuple[int, int, int]:
    channels = {"grey": 1, "rgb": 3}.get(options.channels)
    if channels is None:
        channels = 1 if all(_is_grey(storages[file.storage], file) for file in files) else 3
    size = _size(options)
    if size is None:
        storage, name = storages[files[0].storage], files[0].name
        with storage.open(name) as data:
            image = pixels.decode(data, storage.describe(name), channels=channels, size=None)
        size = (image.shape[1], image.shape[2])
    return (channels, *size)


def _is_grey(storage: Storage, file: ImageFile) -> bool:
    with storage.open(file.name) as data:
        return pixels.is_grey(data, storage.describe(file.name))


def _size(options: Options) -> tuple[int, int] | None:
    return (options.size, options.size) if isinstance(options.size, int) else options.size


class _Reader:
    """Decodes tasks into tensors that are allocated once.

    Args:
        storages: The open storages.
        shape: ``(channels, height, width)`` of every image.
        options: The source's options.
        first: What messages call the image that ``shape`` comes from.
        advance: Told of every image read.
    """

    def __init__(
        self,
        storages: Sequence[Storage],
        shape: tuple[int, int, int],
        options: Options,
        first: str,
        advance: Callable[[int], object],
    ) -> None:
        self._storages = storages
        self._shape = shape
        self._size = _size(options)
        self._first = first
        self._advance = advance

    def task(self, task: _Selected) -> RawTask:
        """Return a task with all its images."""
        return RawTask(
            name=task.name,
            classes=task.classes,
            train_images=self._images(task.train),
            train_labels=_labels(task.train),
            test_images=self._images(task.test),
            test_labels=_labels(task.test),
        )

    def _images(self, by_class: Sequence[Sequence[ImageFile]]) -> torch.Tensor:
        files = [image for images in by_class for image in images]
        out = np.empty((len(files), *self._shape), np.uint8)
        rows = sorted(range(len(files)), key=lambda i: (files[i].storage, files[i].position))
        with pixels.pillow_warnings():
            for row in rows:
                out[row] = self._decoded(files[row])
                self._advance(1)
        return torch.from_numpy(out)

    def _decoded(self, file: ImageFile) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        storage = self._storages[file.storage]
        name = storage.describe(file.name)
        with storage.open(file.name) as data:
            image = pixels.decode(data, name, channels=self._shape[0], size=self._size)
        if image.shape != self._shape:
            (_, height, width), (_, first_height, first_width) = image.shape, self._shape
            raise InputError(
                f"images differ in size: {self._first} is {first_height} x {first_width},"
                f" {name} is {height} x {width} (height x width)",
                "set data.size, for example data.size=32",
            )
        return image


def _labels(by_class: Sequence[Sequence[ImageFile]]) -> torch.Tensor:
    counts = torch.tensor([len(images) for images in by_class])
    return torch.arange(len(by_class)).repeat_interleave(counts)
