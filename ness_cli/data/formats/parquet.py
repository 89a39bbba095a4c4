"""Which parquet files make a data set, and two of their columns, read piece by piece.

A column of images easily holds more than the 2 GiB that one array of pyarrow can: it stays in the
pieces in which it is read.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ness_cli.data.formats.archive import locate
from ness_cli.data.formats.labels import whole_numbers
from ness_cli.errors import InputError, SettingsError

SPLITS = ("train", "test")
_NAMES = r"(train|test|val|dev|unsup)"
_ROWS = 256  # at a time; as many images are far from 2 GiB


def split_files(paths: str | Sequence[str]) -> dict[str, list[Path]]:
    """Return the files of each split, sorted by name.

    Args:
        paths: ``data.path``: folders and files.

    Raises:
        InputError: If a path is missing, there are no training images, a file is found twice, or a
            folder holds several data sets.
        SettingsError: If a path is given twice.
    """
    roots = locate(paths)
    by_root = {
        root: sorted(path for path in root.rglob("*.parquet") if path.is_file())
        if root.is_dir()
        else [root]
        for root in roots
    }
    found = [path for files in by_root.values() for path in files]
    _refuse_twice(found)
    splits: dict[str, list[Path]] = {}
    for path in found:
        # A single file may be called anything.
        alone = len(found) == 1 and not re.match(_NAMES, path.name)
        splits.setdefault("train" if alone else _split_of(path), []).append(path)
    if "train" not in splits:
        raise InputError(
            f"data.path: there is no train*.parquet among {len(found)} files in {paths}",
            "set data.path to the folder or files of the data set",
        )
    chosen = {split: splits[split] for split in SPLITS if split in splits}
    for root, files in by_root.items():
        for split in chosen.values():
            _refuse_several(root, [path for path in split if path in files])
    return chosen


def _split_of(path: Path) -> str:
    """Return the split of a file: its own name decides, else that of the folder it lies in."""
    name = re.match(_NAMES, path.name)
    folder = re.fullmatch(f"{_NAMES}[a-z]*", path.parent.name)
    return name[1] if name else folder[1] if folder else ""


def _refuse_twice(paths: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise InputError(
                f"data.path: {path} is found twice, which would double its images",
                "name its folder or the file, not both",
            )
        seen.add(path.resolve())


def _refuse_several(root: Path, paths: Sequence[Path]) -> None:
    """Refuse files of one split from several folders: versions of a data set lie like this."""
    folders = sorted({_data_set_of(path) for path in paths})
    if len(folders) > 1:
        names = ", ".join(str(folder.relative_to(root.parent)) for folder in folders[:4])
        raise InputError(
            f"data.path: {root} holds {len(folders)} data sets: {names}",
            f"set data.path to one of them, for example {folders[-1]}, or list all that are meant",
        )


def _data_set_of(path: Path) -> Path:
    """Return the folder of a data set, which may have a folder for each split."""
    is_split = re.fullmatch(f"{_NAMES}[a-z]*", path.parent.name)
    return path.parent.parent if is_split else path.parent


# -- columns -------------------------------------------------------------------------------------


def opened(path: Path) -> Any:
    """Return a pyarrow ``ParquetFile``.

    Raises:
        InputError: If it cannot be read.
        SettingsError: If pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SettingsError(
            "data.source: parquet needs the package pyarrow", "run: pip install pyarrow"
        ) from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def image_columns(schema: Any) -> list[str]:
    """Return the columns of a schema that can hold encoded images."""
    import pyarrow

    def is_bytes(kind: Any) -> bool:
        return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))

    def holds_images(kind: Any) -> bool:
        if not pyarrow.types.is_struct(kind):
            return is_bytes(kind)
        position = kind.get_field_index("bytes")
        return position >= 0 and is_bytes(kind.field(position).type)

    return [field.name for field in schema if holds_images(field.type)]


def number_columns(schema: Any) -> list[str]:
    """Return the columns of a schema that hold whole numbers."""
    import pyarrow

    return [field.name for field in schema if pyarrow.types.is_integer(field.type)]


class Images:
    """Encoded images of some files, in their order.

    Args:
        pieces: A file, the number of a row in it, and the images from there on, as a pyarrow array.
    """

    def __init__(self, pieces: Sequence[tuple[Path, int, Any]]) -> None:
        self._pieces = pieces
        self._starts: list[int] = []
        total = 0
        for _, _, values in pieces:
            self._starts.append(total)
            total += len(values)

    def __getitem__(self, position: int) -> bytes | None:
        """Return an image as it is encoded, ``None`` if its row has none."""
        piece = bisect_right(self._starts, position) - 1
        value: bytes | None = self._pieces[piece][2][position - self._starts[piece]].as_py()
        return value

    def describe(self, position: int) -> str:
        """Return the name of the file and the row in it, counted from 0."""
        piece = bisect_right(self._starts, position) - 1
        path, row, _ = self._pieces[piece]
        return f"{path.name}: row {row + position - self._starts[piece]}"


def read(paths: Sequence[Path], image: str, label: str) -> tuple[Images, torch.Tensor]:
    """Return the images and labels of some files.

    Args:
        paths: The files.
        image: Column of encoded images.
        label: Column of whole numbers.

    Raises:
        InputError: If a file cannot be read, lacks a column, holds something else in it, or has
            rows without a label.
    """
    pieces: list[tuple[Path, int, Any]] = []
    labels = [torch.empty(0, dtype=torch.int64)]
    for path in paths:
        row = 0
        for images, numbers in _batches(path, image, label):
            if numbers.null_count:
                raise InputError(
                    f"{path}: {numbers.null_count} of rows {row} to {row + len(numbers) - 1} have"
                    f" no {label!r}",
                    "remove these rows",
                )
            pieces.append((path, row, images))
            labels.append(whole_numbers(numbers.to_numpy(zero_copy_only=False), f"{path}: {label}"))
            row += len(numbers)
    return Images(pieces), torch.cat(labels)


def _batches(path: Path, image: str, label: str) -> Iterator[tuple[Any, Any]]:
    """Yield images and labels of a file, as pyarrow arrays."""
    import pyarrow

    file = opened(path)
    schema = file.schema_arrow
    usable: Mapping[str, list[str]] = {image: image_columns(schema), label: number_columns(schema)}
    for column, possible in usable.items():
        if possible.count(column) != 1:
            held = f"holds {schema.field(column).type}" if column in schema.names else "is missing"
            raise InputError(
                f"{path}: column {column!r} {held}, unlike in the first file of data.path",
                "use files of one data set",
            )
    try:
        for batch in file.iter_batches(_ROWS, columns=[image, label]):
            images = batch.column(image)
            if pyarrow.types.is_struct(images.type):
                images = images.field("bytes")
            yield images, batch.column(label)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0]
    return InputError(f"{path} cannot be read as parquet: {reason}", "get the file again")
