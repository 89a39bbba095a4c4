"""Your own images: train/CLASS/* and test/CLASS/* in a directory, a zip or a tar."""

from __future__ import annotations

from typing import Literal

from ness_cli.settings.sources.base import DatasetSettings, Names


class Options(DatasetSettings):
    """Options of the data source ``image-folder``."""

    source: Literal["image-folder"] = "image-folder"
    """Images in folders named after their classes."""
    path: str | Names = "data"
    """A directory, zip or tar, or a list of them merged by class name. Without ``train`` and
    ``test`` folders, set ``test_fraction``."""
    exclude: Names | None = None
    """Files to leave out: names below the class folder's parent, ``*`` allowed."""
