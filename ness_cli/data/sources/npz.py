"""Arrays in a .npz file, in the layout of MedMNIST (Yang et al. 2023)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ness_cli.data.dataset import ArrayDataset, Dataset
from ness_cli.data.formats.archive import locate
from ness_cli.data.formats.content import sha256_of_paths
from ness_cli.data.formats.labels import Arrays, joined, numbered, whole_numbers
from ness_cli.errors import InputError
from ness_cli.settings.sources.npz import Options

if TYPE_CHECKING:
    from ness_cli.console import Progress


def content_hash(options: Options, progress: Progress) -> str:
    """Return the SHA-256 of the file.

    Raises:
        InputError: If it is missing or cannot be read.
    """
    return sha256_of_paths(locate(options.path), progress)


@contextlib.contextmanager
def opened(options: Options, progress: Progress | None) -> Iterator[Dataset]:
    """Provide the images.

    Raises:
        InputError: If the file is missing, damaged, or not in this layout.
    """
    (path,) = locate(options.path)
    content = _load(path)
    if "train_images" not in content:
        raise InputError(
            f"{path} has no array 'train_images', only {', '.join(content) or 'none at all'}",
            "see the keys of MedMNIST's files",
        )
    images, labels = joined(
        (f"{path}: {split}_images", arrays)
        for split in ("train", "val")
        if (arrays := _split(content, split, path)) is not None
    )
    test = _split(content, "test", path)
    names = numbered(labels if test is None else torch.cat([labels, test[1]]), str(path))
    yield ArrayDataset(str(path), names, (images, labels), test, options)


def _load(path: Path) -> dict[str, Any]:
    try:
        # numpy leaves a file open that it opened itself and cannot read.
        with path.open("rb") as opened_file:
            file = np.load(opened_file, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise InputError(
                    f"{path} is a single array (.npy), not a .npz of several",
                    "save images and labels together: numpy.savez(FILE, train_images=...,"
                    " train_labels=...)",
                )
            with file:
                return {key: file[key] for key in file.files}
    except (InputError, MemoryError):
        raise
    # numpy and zipfile raise errors of many kinds on what is no such file, or damaged.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        if "allow_pickle" in reason or "Object arrays" in reason:
            reason = "it holds pickled objects, which are not read"
        raise InputError(f"{path} cannot be read as .npz: {reason}", "get it again") from error


def _split(content: Mapping[str, Any], split: str, path: Path) -> Arrays | None:
    """Return images ``[n, c, h, w]`` and labels ``[n]`` of a split, if it is there."""
    if f"{split}_images" not in content:
        return None
    images, labels = content[f"{split}_images"], content.get(f"{split}_labels")
    what = f"{path}: {split}_images"
    if images.dtype != np.uint8:
        raise InputError(
            f"{what} are {images.dtype}", "convert them to bytes 0..255 (numpy uint8) first"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise InputError(
            f"{what} have shape {list(images.shape)}", "give [n, h, w], or [n, h, w, 3] for colour"
        )
    if labels is None:
        raise InputError(f"{path} has no array '{split}_labels'", "add it")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(
            f"{path}: {split}_labels are {labels.dtype} {list(labels.shape)}",
            "give one whole number per image; several labels per image are not supported",
        )
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return torch.from_numpy(planes), whole_numbers(labels, f"{path}: {split}_labels")
