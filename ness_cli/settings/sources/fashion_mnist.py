"""Fashion-MNIST: 70 000 grey images of 28 x 28 pixels, ten kinds of clothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ness_cli.settings.sources.base import Counts, PublicSettings


class Options(PublicSettings):
    """Options of the data source ``fashion-mnist``."""

    source: Literal["fashion-mnist"] = "fashion-mnist"
    """Four files in the idx format."""
    classes_per_task: Annotated[int, Field(ge=1)] | Counts = 2
    """Classes of every task, or a list with one number per task."""
