"""Parquet files of encoded images and labels, in the layout of Hugging Face's data sets.

Files are told apart by name: those of ``train`` and of ``test`` are read, others (``validation``)
are left alone. Names of classes stand in the schema's metadata, if at all.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ness_cli.data import pixels
from ness_cli.data.content import sha256_of_paths
from ness_cli.data.dataset import Dataset
from ness_cli.data.decoded import DecodedDataset, Place
from ness_cli.data.storage import locate
from ness_cli.errors import InputError, SettingsError
from ness_cli.settings.sources.parquet import Options

if TYPE_CHECKING:
    from ness_cli.console import Progress

_SPLITS = ("train", "test")


def content_hash(options: Options, progress: Progress) -> str:
    """Return the SHA-256 of all files that are read.

    Raises:
        InputError: If one is missing or cannot be read.
        SettingsError: If a path is given twice.
    """
    files = _files(options)
    return sha256_of_paths([path for paths in files.values() for path in paths], progress)


@contextlib.contextmanager
def opened(options: Options, progress: Progress | None) -> Iterator[Dataset]:
    """Provide the images, in memory as they are encoded.

    Raises:
        InputError: If files are missing, damaged, or not in this layout.
        SettingsError: If pyarrow is not installed, or the columns are not clear.
    """
    files = _files(options)
    tables = {split: _read(paths) for split, paths in files.items()}
    first = tables["train"]
    place = str(files["train"][0])
    image = _column(
        first, options.image_column, _holds_images(first), ("image", "img"), "image", place
    )
    label = _column(
        first, options.label_column, _holds_numbers(first), ("label", "labels"), "label", place
    )
    numbers = {split: _labels(table, label, files[split][0]) for split, table in tables.items()}
    names = _class_names(first, label, torch.cat(list(numbers.values())), place)
    encoded = {split: _bytes(table, image, files[split][0]) for split, table in tables.items()}
    yield ParquetDataset(names, numbers, options, encoded, files)


class ParquetDataset(DecodedDataset):
    """Encoded images from a column.

    Args:
        classes: Names of the classes.
        labels: Labels by split.
        options: Size and channels to bring the images to.
        encoded: The encoded images by split.
        files: The files that they come from, for messages.
    """

    def __init__(
        self,
        classes: Sequence[str],
        labels: Mapping[str, torch.Tensor],
        options: Options,
        encoded: Mapping[str, Sequence[Any]],
        files: Mapping[str, Sequence[Path]],
    ) -> None:
        self._encoded = encoded
        self._files = files
        super().__init__(classes, labels, options)

    def decode(self, place: Place, form: pixels.Form) -> NDArray[np.uint8]:
        """Return an image brought to a form; errors name the row."""
        return form.of_file(self._open(place), self.describe(place))

    def is_grey(self, place: Place) -> bool:
        """Return whether an image is stored as grey, from its header; errors name the row."""
        return pixels.is_grey(self._open(place), self.describe(place))

    def describe(self, place: Place) -> str:
        """Return the files of the split and the row, counted through all of them from 0."""
        split, position = place
        return f"{', '.join(path.name for path in self._files[split])}: row {position}"

    def _open(self, place: Place) -> io.BytesIO:
        split, position = place
        value = self._encoded[split][position].as_py()
        if value is None:
            raise InputError(f"{self.describe(place)} has no image", "remove the row")
        return io.BytesIO(value)


def _files(options: Options) -> dict[str, list[Path]]:
    """Return the files of each split, sorted by name."""
    found: list[Path] = []
    for path in locate(options.path):
        found += sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    splits: dict[str, list[Path]] = {}
    for path in found:
        # The file's own name decides; failing that, the name of the folder that it lies in.
        match = re.match(r"(train|test|val|dev|unsup)", path.name)
        folder = re.fullmatch(r"(train|test|val|dev|unsup)[a-z]*", path.parent.name)
        if match:
            splits.setdefault(match[1], []).append(path)
        elif len(found) == 1:
            splits["train"] = [path]
        elif folder:
            splits.setdefault(folder[1], []).append(path)
    if "train" not in splits:
        raise InputError(
            f"data.path: there is no train*.parquet among {len(found)} files in {options.path}",
            "set data.path to the folder or files of the data set",
        )
    return {split: splits[split] for split in _SPLITS if split in splits}


def _read(paths: Sequence[Path]) -> Any:
    """Return the rows of some files as one table."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SettingsError(
            "data.source: parquet needs the package pyarrow", "run: pip install pyarrow"
        ) from error
    tables = []
    for path in paths:
        try:
            tables.append(pyarrow.parquet.ParquetFile(path).read())
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"{path} cannot be read as parquet: {reason}", "get the file again"
            ) from error
    try:
        return pyarrow.concat_tables(tables)
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{paths[0].parent}: the files differ in their columns", "use files of one data set"
        ) from error


def _holds_images(table: Any) -> list[str]:
    import pyarrow

    def holds_images(kind: Any) -> bool:
        is_struct = pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        return bool(
            is_struct or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)
        )

    return [field.name for field in table.schema if holds_images(field.type)]


def _holds_numbers(table: Any) -> list[str]:
    import pyarrow

    return [field.name for field in table.schema if pyarrow.types.is_integer(field.type)]


def _column(
    table: Any,
    asked: str | None,
    possible: list[str],
    usual: Sequence[str],
    kind: str,
    place: str,
) -> str:
    if asked is not None and asked not in table.column_names:
        raise SettingsError(
            f"data.{kind}_column: {place} has no column {asked!r}",
            f"its columns are {', '.join(table.column_names)}",
        )
    if asked is not None and asked not in possible:
        raise SettingsError(
            f"data.{kind}_column: {asked!r} holds {table.schema.field(asked).type}",
            f"choose one of: {', '.join(possible) or 'none can be used'}",
        )
    chosen = [asked] if asked else [name for name in possible if name in usual] or possible
    if len(chosen) != 1:
        raise SettingsError(
            f"data.{kind}_column: {place} has {len(chosen)} columns that can be meant"
            f" ({', '.join(chosen)})",
            f"set data.{kind}_column",
        )
    return chosen[0]


def _labels(table: Any, column: str, path: Path) -> torch.Tensor:
    values = table.column(column)
    if values.null_count:
        raise InputError(
            f"{path}: {values.null_count} rows have no {column!r}", "remove these rows"
        )
    return torch.from_numpy(values.to_numpy().astype(np.int64))


def _class_names(table: Any, column: str, labels: torch.Tensor, place: str) -> list[str]:
    """Return names from Hugging Face's metadata, else the numbers."""
    smallest, largest = int(labels.min()), int(labels.max())
    try:
        document = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        names = document["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        width = len(str(largest))
        names = [f"{label:0{width}d}" for label in range(largest + 1)]
    if smallest < 0 or largest >= len(names):
        wrong = smallest if smallest < 0 else largest
        raise InputError(
            f"{place}: label {wrong} is not between 0 and {len(names) - 1}", "correct the labels"
        )
    return [str(name) for name in names]


def _bytes(table: Any, column: str, path: Path) -> Any:
    import pyarrow

    values = table.column(column).combine_chunks()
    if isinstance(values, pyarrow.ChunkedArray):
        values = pyarrow.concat_arrays(values.chunks)
    if pyarrow.types.is_struct(values.type):
        values = values.field("bytes")
    return values
