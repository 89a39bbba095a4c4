"""Mean and standard deviation that images are normalised by, computed or given."""

from __future__ import annotations

import torch

from ness_cli.errors import SettingsError
from ness_cli.settings.sources.base import DatasetSettings
from ness_cli.words import counted

Constants = tuple[list[float] | None, list[float] | None]  # mean and std per channel


def channel_statistics(images: torch.Tensor) -> tuple[list[float], list[float]]:
    """Return mean and population standard deviation per channel, of values scaled to 0..1.

    Computed in float64 from counts of the 256 values, so that neither the order of images nor the
    number of threads changes a bit. A channel without variation gets the deviation 1: dividing by
    0 would make it NaN, and it is 0 everywhere once its mean is subtracted.

    Args:
        images: uint8 ``[n, c, h, w]``.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in images.unbind(1):
        frequencies = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        centre = float(frequencies @ values)
        spread = float((frequencies @ (values - centre) ** 2).sqrt())
        is_constant = bool(channel.min() == channel.max())
        mean.append(centre)
        std.append(1.0 if is_constant else spread)
    return mean, std


def given_constants(options: DatasetSettings, channels: int) -> Constants:
    """Return mean and deviation per channel where the settings give them, ``None`` elsewhere.

    Raises:
        SettingsError: If they are not one value per channel, or a deviation is not positive.
    """
    for name, values in (("mean", options.mean), ("std", options.std)):
        if values is not None and len(values) != channels:
            raise SettingsError(
                f"data.{name}: {counted(len(values), 'value')}, but images have "
                f"{counted(channels, 'channel')}",
                "give one value per channel, or none to compute them",
            )
    if options.std is not None and min(options.std) <= 0:
        raise SettingsError(f"data.std: {min(options.std)} is not above 0", "give a positive value")
    mean = None if options.mean is None else list(options.mean)
    return mean, None if options.std is None else list(options.std)
