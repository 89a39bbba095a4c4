"""notMNIST (small): 18 724 grey images of 28 x 28 pixels, letters A to J in many fonts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ness_cli.settings.sources.base import DatasetSettings, Names, PerTask


class Options(DatasetSettings):
    """Options of the data source ``notmnist``."""

    source: Literal["notmnist"] = "notmnist"
    """The folder ``notMNIST_small``, a zip or tar of it, with a folder for each letter."""
    path: str = "data"
    """The folder or archive, or the folder that it lies in."""
    classes_per_task: PerTask = 2
    """Letters of every task, or a list with one number per task."""
    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of each letter's images set aside for testing."""
    exclude: Names = (
        "A/RGVtb2NyYXRpY2FCb2xkT2xkc3R5bGUgQm9sZC50dGY=.png",
        "F/Q3Jvc3NvdmVyIEJvbGRPYmxpcXVlLnR0Zg==.png",
    )
    """Files to leave out; these two were published unreadable."""
