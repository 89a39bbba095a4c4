"""Random changes of training images, by torchvision's transforms (v2), on the device.

Every image of a batch draws its own random numbers, from torch's default generator: a resumed task
goes on with the numbers it would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ness_cli.errors import SettingsError, did_you_mean
from ness_cli.vision_libraries import import_torchvision
from ness_cli.words import counted

Steps = Sequence[str | Mapping[str, Mapping[str, Any]]]


class Augment:
    """A chain of transforms on uint8 images.

    Args:
        steps: Names of classes of ``torchvision.transforms.v2``, or one name with its arguments
            each: ``{"RandomCrop": {"size": 32, "padding": 4}}``.
        image_shape: ``(c, h, w)`` of the images, which the chain must keep.

    Raises:
        SettingsError: If there is no such transform, its arguments are wrong, or the chain changes
            the shape or the type of images.
        SystemRefusedError: If torchvision cannot be imported.
    """

    def __init__(self, steps: Steps, image_shape: Sequence[int]) -> None:
        import_torchvision()
        from torchvision.transforms import v2

        self._chain = v2.Compose([_step(v2, step) for step in steps])
        self._try(image_shape)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return changed images, uint8 ``[n, c, h, w]`` as they came."""
        return torch.stack([self._chain(image) for image in images])

    def _try(self, image_shape: Sequence[int]) -> None:
        image = torch.zeros(*image_shape, dtype=torch.uint8)
        with torch.random.fork_rng(devices=[]):
            try:
                changed = self._chain(image)
            except Exception as error:  # a transform may raise anything on images it cannot take
                raise SettingsError(f"train.augment: {error}", "change its arguments") from error
        if changed.shape != image.shape or changed.dtype != image.dtype:
            raise SettingsError(
                f"train.augment: makes {list(changed.shape)} of type {changed.dtype} of images that"
                f" are {list(image.shape)} of type {image.dtype}",
                "keep the size, and leave conversion and normalisation out",
            )


def _step(v2: Any, step: str | Mapping[str, Mapping[str, Any]]) -> Any:
    named: Mapping[str, Mapping[str, Any]] = {step: {}} if isinstance(step, str) else step
    if len(named) != 1:
        raise SettingsError(
            f"train.augment: {dict(named)} names {counted(len(named), 'transform')}",
            "one per list entry",
        )
    ((name, arguments),) = named.items()
    known = [
        each
        for each, kind in vars(v2).items()
        if isinstance(kind, type) and issubclass(kind, v2.Transform)
    ]
    if name not in known:
        raise SettingsError(
            f"train.augment: there is no transform {name!r}{did_you_mean(name, known)}",
            "see torchvision.transforms.v2",
        )
    try:
        return getattr(v2, name)(**arguments)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"train.augment: {name}: {error}", "correct its arguments") from error
