"""MNIST: 70 000 grey images of 28 x 28 pixels, handwritten digits."""

from __future__ import annotations

from typing import ClassVar, Literal

from ness_cli.settings.sources.base import TorchvisionClassSettings


class Options(TorchvisionClassSettings):
    """Options of the data source ``mnist``."""

    dataset: ClassVar[str] = "MNIST"
    source: Literal["mnist"] = "mnist"
    """Four files in the idx format."""
