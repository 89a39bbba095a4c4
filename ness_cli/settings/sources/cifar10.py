"""CIFAR-10: 60 000 colour images of 32 x 32 pixels in 10 classes."""

from __future__ import annotations

from typing import Literal

from ness_cli.settings.sources.base import PerTask, PublicSettings


class Options(PublicSettings):
    """Options of the data source ``cifar10``."""

    source: Literal["cifar10"] = "cifar10"
    """The archive ``cifar-10-python.tar.gz``, or the folder unpacked from it."""
    classes_per_task: PerTask = 2
    """Classes of every task, or a list with one number per task."""
