"""Fashion-MNIST: 70 000 grey images of 28 x 28 pixels, ten kinds of clothing."""

from __future__ import annotations

from typing import ClassVar, Literal

from ness_cli.settings.sources.base import TorchvisionClassSettings


class Options(TorchvisionClassSettings):
    """Options of the data source ``fashion-mnist``."""

    dataset: ClassVar[str] = "FashionMNIST"
    source: Literal["fashion-mnist"] = "fashion-mnist"
    """Four files in the idx format."""
