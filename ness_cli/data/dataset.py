"""A labelled set of images, opened for reading: what every data source hands over.

Labels are known at once, images are read by position: a limit, or a stream of a few tasks, saves
reading the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ness_cli.data.formats.image import Form
from ness_cli.data.formats.labels import refuse_unequal_numbers, shape_of
from ness_cli.errors import InputError
from ness_cli.settings.sources.base import DatasetSettings

Shape = tuple[int, int, int]


class Dataset(ABC):
    """Images of some classes, for training and maybe for validation and testing.

    Attributes:
        classes: Names of the classes; label k stands for the k-th.
        image_shape: ``(channels, height, width)`` of every image that ``images`` returns.
        left_out: Names of files that cannot be read and are skipped on request.
    """

    classes: tuple[str, ...]
    image_shape: Shape
    left_out: tuple[str, ...] = ()

    @abstractmethod
    def labels(self, split: str) -> torch.Tensor | None:
        """Return the label of every image of ``train``, ``valid`` or ``test``, int64 ``[n]``.

        ``None`` for ``valid`` and ``test`` if the data has no such images of its own.
        """

    @abstractmethod
    def images(
        self, split: str, positions: torch.Tensor, advance: Callable[[int], object]
    ) -> torch.Tensor:
        """Return the images of a split at some positions.

        Args:
            split: ``train``, ``valid`` or ``test``.
            positions: int64 ``[m]``, places in ``labels(split)``.
            advance: Told of images read.

        Returns:
            uint8 ``[m, channels, height, width]``.

        Raises:
            InputError: If an image cannot be read; the message names it.
        """


class ArrayDataset(Dataset):
    """A data set whose images are in memory.

    Args:
        title: What messages call the data: a file.
        classes: Names of the classes.
        train: uint8 images ``[n, c, h, w]`` and integer labels ``[n]``.
        test: The same for test images, or ``None``.
        options: Size and channels to bring the images to.

    Raises:
        InputError: If images have no pixels, labels are out of range or not in one dimension,
            images and labels differ in number, or test images have another shape than training
            images and no setting says what to bring them to.
    """

    def __init__(
        self,
        title: str,
        classes: Sequence[str],
        train: tuple[torch.Tensor, torch.Tensor],
        test: tuple[torch.Tensor, torch.Tensor] | None,
        options: DatasetSettings,
    ) -> None:
        self.classes = tuple(classes)
        self._splits = {"train": train} | ({} if test is None else {"test": test})
        for split, (images, labels) in self._splits.items():
            _check(f"{title}: {split}", images, labels, len(self.classes))
        if test is not None:
            _refuse_other_shape(title, train[0], test[0], options)
        channels, height, width = train[0].shape[1:]
        self._form = Form(
            channels={"grey": 1, "rgb": 3}.get(options.channels, channels),
            size=size_of(options) or (height, width),
            fit=options.fit,
        )
        self.image_shape = self._form.shape

    def labels(self, split: str) -> torch.Tensor | None:
        """Return the label of every image, int64 ``[n]``."""
        return self._splits[split][1].long() if split in self._splits else None

    def images(
        self, split: str, positions: torch.Tensor, advance: Callable[[int], object]
    ) -> torch.Tensor:
        """Return images, brought to size and channels; errors as in ``Dataset.images``."""
        chosen = self._splits[split][0][positions]
        if tuple(chosen.shape[1:]) == self.image_shape:
            advance(len(chosen))
            return chosen
        out = np.empty((len(chosen), *self.image_shape), np.uint8)
        for row, image in enumerate(chosen.numpy()):
            out[row] = self._form.of_array(image)
            advance(1)
        return torch.from_numpy(out)


def size_of(options: DatasetSettings) -> tuple[int, int] | None:
    """Return height and width that images are to be brought to, if any."""
    return (options.size, options.size) if isinstance(options.size, int) else options.size


def _refuse_other_shape(
    title: str, train: torch.Tensor, test: torch.Tensor, options: DatasetSettings
) -> None:
    """Refuse test images of another shape, unless settings say what to bring them to."""
    (channels, *size), (test_channels, *test_size) = train.shape[1:], test.shape[1:]
    wanted = []
    if channels != test_channels and options.channels == "auto":
        wanted.append("data.channels=grey or data.channels=rgb")
    if size != test_size and options.size is None:
        wanted.append(f"data.size, for example data.size={size[0]}")
    if wanted:
        raise InputError(
            f"{title}: training images are {shape_of(train)}, test images are {shape_of(test)}"
            " (channels x height x width)",
            f"set {' and '.join(wanted)}",
        )


def _check(title: str, images: torch.Tensor, labels: torch.Tensor, num_classes: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise InputError(
            f"{title}: images are {images.dtype} of shape {list(images.shape)}",
            "images are 8-bit, [n, channels, height, width]",
        )
    if 0 in images.shape[1:]:
        raise InputError(
            f"{title}: images have no pixels: they are {shape_of(images)} (channels x height x"
            " width)",
            "get the file again",
        )
    if labels.ndim != 1:
        raise InputError(
            f"{title}: labels have shape {list(labels.shape)}", "give one label for each image"
        )
    refuse_unequal_numbers(title, images, labels)
    wrong = (labels < 0) | (labels >= num_classes)
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise InputError(
            f"{title}: label {int(labels[first])} of image {first} is not between 0 and"
            f" {num_classes - 1}",
            "correct the labels",
        )
