"""CIFAR-100: 60 000 colour images of 32 x 32 pixels in 100 classes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ness_cli.settings.sources.base import Counts, PublicSettings


class Options(PublicSettings):
    """Options of the data source ``cifar100``."""

    source: Literal["cifar100"] = "cifar100"
    """The archive ``cifar-100-python.tar.gz``, or the folder unpacked from it."""
    classes_per_task: Annotated[int, Field(ge=1)] | Counts = 10
    """Classes of every task, or a list with one number per task."""
