"""miniImageNet: 60 000 colour images of 84 x 84 pixels in 100 classes, from the usual pickles."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ness_cli.settings.sources.base import DatasetSettings, Names, PerTask


class Options(DatasetSettings):
    """Options of the data source ``mini-imagenet``."""

    source: Literal["mini-imagenet"] = "mini-imagenet"
    """``train.pkl`` and ``test.pkl`` (dicts of ``images`` and ``labels``), or the three files
    ``mini-imagenet-cache-train.pkl``, ``-val.pkl``, ``-test.pkl`` (dicts of ``image_data`` and
    ``class_dict``), which need ``test_fraction``."""
    path: str = "data"
    """The folder that the files lie in, or the folder around ``MiniImageNet``."""
    classes_per_task: PerTask = 5
    """Classes of every task, or a list with one number per task."""
    class_order: Literal["sorted", "seeded", "numpy-seeded"] | Names = "numpy-seeded"
    """Order in which tasks get their classes; ``numpy-seeded`` is that of the published runs."""
    split_seed: Annotated[int, Field(ge=0)] | Literal["run"] = "run"
    """Seed of every random choice in the data. The published runs took the run's seed: every seed
    learns tasks of its own."""
