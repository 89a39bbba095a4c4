"""CIFAR-100: 60 000 colour images of 32 x 32 pixels in 100 classes."""

from __future__ import annotations

from typing import Literal

from ness_cli.settings.sources.base import PerTask, PublicSettings


class Options(PublicSettings):
    """Options of the data source ``cifar100``."""

    source: Literal["cifar100"] = "cifar100"
    """The archive ``cifar-100-python.tar.gz``, or the folder unpacked from it."""
    classes_per_task: PerTask = 10
    """Classes of every task, or a list with one number per task."""
