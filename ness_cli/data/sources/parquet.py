"""Parquet files of encoded images and labels, in the layout of Hugging Face's data sets.

Files are told apart by name: those of ``train`` and of ``test`` are read, others (``validation``)
are left alone. Names of classes stand in the schema's metadata, if at all.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ness_cli.data.dataset import Dataset
from ness_cli.data.formats import parquet
from ness_cli.data.formats.content import sha256_of_paths
from ness_cli.data.formats.decoded import DecodedDataset, ImageKey
from ness_cli.data.formats.image import Form, is_grey
from ness_cli.data.formats.labels import numbered
from ness_cli.errors import InputError, SettingsError
from ness_cli.settings.sources.parquet import Options
from ness_cli.words import counted

if TYPE_CHECKING:
    from ness_cli.console import Progress


def content_hash(options: Options, progress: Progress) -> str:
    """Return the SHA-256 of all files that are read.

    Raises:
        InputError: If one is missing or cannot be read.
        SettingsError: If a path is given twice.
    """
    files = parquet.split_files(options.path)
    return sha256_of_paths([path for paths in files.values() for path in paths], progress)


@contextlib.contextmanager
def opened(options: Options, progress: Progress | None) -> Iterator[Dataset]:
    """Provide the images, in memory as they are encoded.

    Raises:
        InputError: If files are missing, damaged, or not in this layout.
        SettingsError: If pyarrow is not installed, or the columns are not clear.
    """
    files = parquet.split_files(options.path)
    schema, file = parquet.opened(files["train"][0]).schema_arrow, str(files["train"][0])
    possible = parquet.image_columns(schema)
    image = _column(schema, options.image_column, possible, ("image", "img"), "image", file)
    possible = parquet.number_columns(schema)
    label = _column(schema, options.label_column, possible, ("label", "labels"), "label", file)
    read = {split: parquet.read(paths, image, label) for split, paths in files.items()}
    numbers = {split: labels for split, (_, labels) in read.items()}
    names = _class_names(schema, label, torch.cat(list(numbers.values())), file)
    _refuse_other_names([paths[0] for paths in files.values()], label)
    yield ParquetDataset(names, numbers, options, {split: each[0] for split, each in read.items()})


class ParquetDataset(DecodedDataset):
    """Encoded images from a column.

    Args:
        classes: Names of the classes.
        labels: Labels by split.
        options: Size and channels to bring the images to.
        encoded: The encoded images by split.
    """

    def __init__(
        self,
        classes: Sequence[str],
        labels: Mapping[str, torch.Tensor],
        options: Options,
        encoded: Mapping[str, parquet.Images],
    ) -> None:
        self._encoded = encoded
        super().__init__(classes, labels, options)

    def decode(self, key: ImageKey, form: Form) -> NDArray[np.uint8]:
        """Return an image brought to a form; errors name the row."""
        return form.of_file(self._open(key), self.describe(key))

    def is_grey(self, key: ImageKey) -> bool:
        """Return whether an image is stored as grey, from its header; errors name the row."""
        return is_grey(self._open(key), self.describe(key))

    def describe(self, key: ImageKey) -> str:
        """Return the name of the file and the row in it, counted from 0."""
        split, position = key
        return self._encoded[split].describe(position)

    def _open(self, key: ImageKey) -> io.BytesIO:
        split, position = key
        value = self._encoded[split][position]
        if value is None:
            raise InputError(f"{self.describe(key)} has no image", "remove the row")
        return io.BytesIO(value)


def _column(
    schema: Any,
    column: str | None,
    possible: list[str],
    usual: Sequence[str],
    kind: str,
    file: str,
) -> str:
    if column is not None and column not in schema.names:
        raise SettingsError(
            f"data.{kind}_column: {file} has no column {column!r}",
            f"its columns are {', '.join(schema.names)}",
        )
    if column is not None and column not in possible:
        raise SettingsError(
            f"data.{kind}_column: {column!r} holds {schema.field(column).type}",
            f"choose one of: {', '.join(possible) or 'none can be used'}",
        )
    chosen = [column] if column else [name for name in possible if name in usual] or possible
    if not chosen:
        raise SettingsError(
            f"data.{kind}_column: {file} has no column that can hold {kind}s",
            f"its columns are {', '.join(schema.names)}",
        )
    if len(chosen) != 1:
        raise SettingsError(
            f"data.{kind}_column: {file} has {counted(len(chosen), 'column')} that can be meant"
            f" ({', '.join(chosen)})",
            f"set data.{kind}_column",
        )
    return chosen[0]


def _class_names(schema: Any, column: str, labels: torch.Tensor, file: str) -> list[str]:
    """Return names from Hugging Face's metadata, else the numbers."""
    names = _names_in(schema, column, file)
    if names is None or not len(labels):
        return numbered(labels, f"data.path: {file}")
    smallest, largest = int(labels.min()), int(labels.max())
    if smallest < 0 or largest >= len(names):
        wrong = smallest if smallest < 0 else largest
        raise InputError(
            f"{file}: label {wrong} is not between 0 and {len(names) - 1}", "correct the labels"
        )
    return names


def _refuse_other_names(paths: Sequence[Path], column: str) -> None:
    """Refuse files that name their classes, and not all alike: a label would mean two things."""
    known = {}
    for path in paths:
        names = _names_in(parquet.opened(path).schema_arrow, column, str(path))
        if names is not None:
            known[path] = names
    for path, names in known.items():
        first = next(iter(known))
        if names != known[first]:
            raise InputError(
                f"{path}: the classes have other names than in {first}", "use files of one data set"
            )


def _names_in(schema: Any, column: str, file: str) -> list[str] | None:
    """Return the names of the classes in Hugging Face's metadata, if there are any."""
    try:
        document = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = document["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise InputError(
            f"{file}: the names of the classes in the metadata are {names!r:.60}, no list of text",
            "write the file anew without them",
        )
    return [str(name) for name in names]
