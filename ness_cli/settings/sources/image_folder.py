"""Your own images: train/CLASS/* and test/CLASS/* in a directory, a zip or a tar."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ness_cli.settings.sources.base import ClassSplitSettings


class Options(ClassSplitSettings):
    """Options of the data source ``image-folder``."""

    source: Literal["image-folder"] = "image-folder"
    """Images in folders named after their classes."""
    path: str | Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    """A directory, zip or tar, or a list of them merged by class name."""
    test_fraction: float | None = Field(default=None, gt=0, lt=1)
    """Share of each class set aside for testing where the data is one folder of classes without
    ``train`` and ``test``."""
    size: Annotated[int, Field(ge=1)] | Annotated[tuple[int, int], Field(strict=False)] | None = (
        None
    )
    """Resize to this many pixels: one number for a square, or height and width. Required when the
    images differ in size."""
    channels: Literal["auto", "rgb", "grey"] = "auto"
    """Convert to colour or grey; ``auto`` keeps grey only if every image is grey."""
