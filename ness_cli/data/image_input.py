"""Images from outside, brought to the form that the images of a run were prepared in."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ness_cli.data.dataset import size_of
from ness_cli.data.formats.image import Form, pillow_warnings
from ness_cli.data.task_stream import TaskInfo
from ness_cli.data.tasks.permutations_and_rotations import Change
from ness_cli.data.tasks.plan import task_changes
from ness_cli.errors import InputError, SettingsError, UnreadableError
from ness_cli.settings.sources.base import DatasetSettings

ImageLike = str | Path | Image.Image | NDArray[np.uint8] | torch.Tensor
"""A path, an image of Pillow, an array ``[h, w]`` or ``[h, w, c]``, or a tensor ``[c, h, w]``."""


@dataclass(frozen=True)
class ImageInput:
    """How images of any kind become what the network of a run was trained on.

    They are decoded, turned, converted and resized as its own images were; of other sizes they are
    resized although the run asked for no size, because all of its own had that of the network.

    Attributes:
        form: Channels, size and how images come to it.
        changes: What every task does to the pixels of its images; ``None`` for nothing.
        tasks: Every task, with the constants that its images are normalised by.
    """

    form: Form
    changes: tuple[Change | None, ...]
    tasks: tuple[TaskInfo, ...]

    @classmethod
    def of_stream(
        cls,
        datasets: Sequence[DatasetSettings],
        image_shape: tuple[int, int, int],
        tasks: Sequence[TaskInfo],
    ) -> ImageInput:
        """Return the input of a prepared stream.

        Raises:
            SettingsError: If its data sets bring images to the network in different ways.
        """
        first = datasets[0]
        ways = {(each.fit, each.layout, each.protocol) for each in datasets}
        if len(ways) > 1 or (len(datasets) > 1 and first.protocol != "split"):
            raise _differ("data.sources: the data sets")
        channels, height, width = image_shape
        form = Form(channels, size_of(first) or (height, width), first.fit)
        changes = task_changes(image_shape, len(tasks), first)
        return cls(form, changes[: len(tasks)], tuple(tasks))

    @classmethod
    def joined(cls, parts: Sequence[ImageInput]) -> ImageInput:
        """Return the input of several streams, one after another.

        Raises:
            SettingsError: If they bring images to the network in different ways.
        """
        if any(part.form != parts[0].form for part in parts):
            raise _differ("data.fit: the tasks that were appended")
        changes = tuple(change for part in parts for change in part.changes)
        return cls(parts[0].form, changes, tuple(task for part in parts for task in part.tasks))

    def pixels(self, image: ImageLike) -> torch.Tensor:
        """Return one image in the form of the run, uint8 ``[c, h, w]``.

        Raises:
            UnreadableError: If it is a file that cannot be read as an image.
            InputError: If its pixels are no 8-bit values, or it is too large to be padded.
        """
        with pillow_warnings():
            if isinstance(image, str | Path):
                return self._of_path(Path(image))
            if isinstance(image, Image.Image):
                found = self.form.of_image(image, "an image")
            else:
                found = self.form.of_array(_planes(image))
        return torch.from_numpy(np.array(found))  # a copy that may be written to

    def pixels_of_file(self, file: BinaryIO, name: str) -> torch.Tensor:
        """Return the image of an open file, uint8 ``[c, h, w]``; errors as in ``pixels``.

        Args:
            file: The file.
            name: What messages call it.
        """
        with pillow_warnings():
            return torch.from_numpy(np.array(self.form.of_file(file, name)))

    def normalised(self, images: torch.Tensor, task_number: int) -> torch.Tensor:
        """Return images as the network sees those of a task, float32 ``[n, c, h, w]``.

        Args:
            images: In the form of the run, uint8 ``[n, c, h, w]``.
            task_number: The task.
        """
        info, change = self.tasks[task_number - 1], self.changes[task_number - 1]
        if change is not None:
            images = change(images.cpu()).to(images.device)
        constants = torch.tensor([info.mean, info.std], dtype=torch.float32, device=images.device)
        mean, std = constants[:, :, None, None] * 255
        x: torch.Tensor = (images.float() - mean) / std
        return x

    def _of_path(self, path: Path) -> torch.Tensor:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UnreadableError(
                f"{path} cannot be read: {error.strerror or error}", "check the path"
            ) from error
        return self.pixels_of_file(io.BytesIO(data), str(path))


def _differ(who: str) -> SettingsError:
    return SettingsError(
        f"{who} treat images differently (fit, layout or protocol), which new images do not tell",
        "use a run of one data set, or of data sets with equal settings",
    )


def _planes(image: NDArray[np.uint8] | torch.Tensor) -> NDArray[np.uint8]:
    """Return the pixels of an array or a tensor, uint8 ``[1 or 3, h, w]``."""
    is_tensor = isinstance(image, torch.Tensor)
    array = np.asarray(image.cpu()) if isinstance(image, torch.Tensor) else image
    order = "[c, h, w]" if is_tensor else "[h, w] or [h, w, c]"
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(
            f"an image is {array.dtype} of shape {list(array.shape)}",
            f"{'tensors' if is_tensor else 'arrays'} are uint8, {order}, values 0 to 255",
        )
    if array.ndim == 2:
        return array[None]
    planes = array if is_tensor else array.transpose(2, 0, 1)
    if len(planes) not in (1, 3):
        raise InputError(
            f"an image is of shape {list(array.shape)}: {len(planes)} channels",
            f"give 1 or 3 channels, {order}",
        )
    return planes
