"""KMNIST: 70 000 grey images of 28 x 28 pixels, ten handwritten kana."""

from __future__ import annotations

from typing import ClassVar, Literal

from ness_cli.settings.sources.base import TorchvisionClassSettings


class Options(TorchvisionClassSettings):
    """Options of the data source ``kmnist``."""

    dataset: ClassVar[str] = "KMNIST"
    source: Literal["kmnist"] = "kmnist"
    """Four files in the idx format."""
