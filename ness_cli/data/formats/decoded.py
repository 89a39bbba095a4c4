"""Data sets whose images are decoded one by one, when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ness_cli.data.dataset import Dataset, size_of
from ness_cli.data.formats.image import Form, pillow_warnings
from ness_cli.errors import InputError
from ness_cli.settings.sources.base import DatasetSettings

ImageKey = tuple[str, int]
"""A split and a position in it."""


class DecodedDataset(Dataset):
    """Encoded images somewhere, and their labels.

    One image is decoded for the shape, unless the size is set; the headers of the others are read
    for as long as all are grey, unless the channels are set.

    Args:
        classes: Names of the classes.
        labels: int64 labels ``[n]`` by split.
        options: Size and channels to bring the images to.

    Raises:
        InputError: If there are no images, or the first cannot be read.
    """

    def __init__(
        self,
        classes: Sequence[str],
        labels: Mapping[str, torch.Tensor],
        options: DatasetSettings,
    ) -> None:
        self.classes = tuple(classes)
        self._labels = dict(labels)
        with pillow_warnings():
            self._form, self._read_form = self._find_form(options)
        self.image_shape = self._form.shape

    @abstractmethod
    def decode(self, key: ImageKey, form: Form) -> NDArray[np.uint8]:
        """Return an image brought to a form, uint8 ``[c, h, w]``; errors name it."""

    @abstractmethod
    def is_grey(self, key: ImageKey) -> bool:
        """Return whether an image is stored as grey; errors name it."""

    @abstractmethod
    def describe(self, key: ImageKey) -> str:
        """Return how messages call an image."""

    def in_reading_order(self, keys: Iterable[ImageKey]) -> list[ImageKey]:
        """Return keys in the order in which they are read fastest."""
        return sorted(keys)

    def labels(self, split: str) -> torch.Tensor | None:
        """Return the label of every image, int64 ``[n]``."""
        return self._labels.get(split)

    def images(
        self, split: str, positions: torch.Tensor, advance: Callable[[int], object]
    ) -> torch.Tensor:
        """Return images in the order asked for.

        Raises:
            InputError: If one cannot be read, or has another size than the first.
        """
        rows = {(split, position): row for row, position in enumerate(positions.tolist())}
        out = np.empty((len(rows), *self.image_shape), np.uint8)
        with pillow_warnings():
            for key in self.in_reading_order(rows):
                out[rows[key]] = self._decoded(key)
                advance(1)
        return torch.from_numpy(out)

    def _decoded(self, key: ImageKey) -> NDArray[np.uint8]:
        image = self.decode(key, self._read_form)
        if image.shape != self.image_shape:
            (_, height, width), (_, first_height, first_width) = image.shape, self.image_shape
            raise InputError(
                f"images differ in size: {self.describe(self._first)} is {first_height} x"
                f" {first_width}, {self.describe(key)} is {height} x {width} (height x width)",
                "set data.size, for example data.size=32",
            )
        return image

    def _find_form(self, options: DatasetSettings) -> tuple[Form, Form]:
        """Return the form of all images, and the one that they are decoded to.

        They differ where no size was asked for: images of other sizes are refused then, and not
        resized, as nobody asked for it.
        """
        every = self.in_reading_order(
            (split, position)
            for split, labels in self._labels.items()
            for position in range(len(labels))
        )
        if not every:
            raise InputError("there are no images", "check data.path")
        self._first = every[0]
        channels = {"grey": 1, "rgb": 3}.get(options.channels)
        if channels is None:
            channels = 1 if all(self.is_grey(key) for key in every) else 3
        form = Form(channels, size_of(options), options.fit)
        if form.size is not None:
            return form, form
        _, height, width = self.decode(every[0], form).shape
        return Form(channels, (height, width), options.fit), form
