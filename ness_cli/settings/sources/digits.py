"""1797 handwritten digits, 8 x 8 pixels, that come with scikit-learn: nothing to download."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ness_cli.settings.sources.base import DataSettings


class Options(DataSettings):
    """Options of the data source ``digits``."""

    source: Literal["digits"] = "digits"
    """The embedded digits."""
    protocol: Literal["permuted", "split"] = "permuted"
    """``permuted``: every task shows all ten digits under its own fixed permutation of the pixels.
    ``split``: five tasks of two digits each."""
    num_tasks: int | None = Field(default=None, ge=1)
    """Number of tasks: by default ten permutations, or all five pairs of digits."""
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the images set aside for testing, the same in every task."""
