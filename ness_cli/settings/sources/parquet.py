"""Parquet files of encoded images, as Hugging Face's data sets have them."""

from __future__ import annotations

from typing import Literal

from ness_cli.settings.sources.base import DatasetSettings, Names, PerTask


class Options(DatasetSettings):
    """Options of the data source ``parquet``; needs pyarrow."""

    source: Literal["parquet"] = "parquet"
    """A column of encoded images (bytes, or a struct with ``bytes``) and one of whole numbers."""
    path: str | Names
    """A folder with the ``train*.parquet`` and ``test*.parquet`` of one data set, in it or in
    folders named after the splits; or a list of such files. Without test files, set
    ``test_fraction``."""
    image_column: str | None = None
    """Column of the images; when absent, the only one that can be meant."""
    label_column: str | None = None
    """Column of the labels; found likewise when absent."""
    classes_per_task: PerTask = 10
    """Classes of every task, or a list with one number per task."""
