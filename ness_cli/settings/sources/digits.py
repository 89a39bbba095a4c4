"""1797 handwritten digits, 8 x 8 pixels, that come with scikit-learn: nothing to download."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ness_cli.settings.sources.base import DatasetSettings, PerTask


class Options(DatasetSettings):
    """Options of the data source ``digits``."""

    source: Literal["digits"] = "digits"
    """The embedded digits."""
    protocol: Literal["split", "permuted", "rotated"] = "permuted"
    """``permuted``: every task shows all ten digits under its own fixed permutation of the pixels.
    ``split``: five tasks of two digits each. ``rotated``: under its own rotation."""
    classes_per_task: PerTask = 2
    """``split``: digits of every task, or a list with one number per task."""
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of each digit's images set aside for testing, the same in every task."""
