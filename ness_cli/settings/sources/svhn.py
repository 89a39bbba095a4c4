"""SVHN: 99 289 colour images of 32 x 32 pixels, digits of house numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

from ness_cli.settings.sources.base import TorchvisionClassSettings


class Options(TorchvisionClassSettings):
    """Options of the data source ``svhn``."""

    dataset: ClassVar[str] = "SVHN"
    source: Literal["svhn"] = "svhn"
    """The files ``train_32x32.mat`` and ``test_32x32.mat``."""
