"""SVHN: 99 289 colour images of 32 x 32 pixels, digits of house numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ness_cli.settings.sources.base import Counts, PublicSettings


class Options(PublicSettings):
    """Options of the data source ``svhn``."""

    source: Literal["svhn"] = "svhn"
    """The files ``train_32x32.mat`` and ``test_32x32.mat``."""
    classes_per_task: Annotated[int, Field(ge=1)] | Counts = 2
    """Classes of every task, or a list with one number per task."""
