"""A .npz file of arrays, as MedMNIST ships them: train_images, train_labels, test_images, ..."""

from __future__ import annotations

from typing import Literal

from ness_cli.settings.sources.base import DatasetSettings, PerTask


class Options(DatasetSettings):
    """Options of the data source ``npz``."""

    source: Literal["npz"] = "npz"
    """Arrays ``train_images`` ``[n, h, w]`` or ``[n, h, w, 3]`` of bytes and ``train_labels``
    ``[n]`` or ``[n, 1]``, the same for ``test_``. Images of ``val_`` are added to the training
    images, of which ``valid_fraction`` is set aside."""
    path: str
    """The file."""
    classes_per_task: PerTask = 2
    """Classes of every task, or a list with one number per task."""
