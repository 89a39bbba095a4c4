"""SVHN: digits of house numbers, cropped (Netzer et al. 2011); digit 0 is stored as label 10."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.io import loadmat

from ness_cli.data.content import sha256_of_paths
from ness_cli.data.dataset import ArrayDataset, Dataset
from ness_cli.data.download import PublicFile, find_or_fetch
from ness_cli.data.labels import Arrays, whole_numbers
from ness_cli.errors import InputError
from ness_cli.settings.sources.svhn import Options

if TYPE_CHECKING:
    from ness_cli.console import Progress

_URL = "http://ufldl.stanford.edu/housenumbers/"
_FILES = (
    PublicFile("train_32x32.mat", f"{_URL}train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
    PublicFile("test_32x32.mat", f"{_URL}test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
)


def content_hash(options: Options, progress: Progress) -> str:
    """Return the SHA-256 of the files."""
    return sha256_of_paths(_locate(options, progress), progress)


@contextlib.contextmanager
def opened(options: Options, progress: Progress | None) -> Iterator[Dataset]:
    """Provide the images.

    Raises:
        InputError: If files are missing or damaged.
    """
    train, test = map(_read, _locate(options, progress))
    classes = [str(digit) for digit in range(10)]
    yield ArrayDataset(f"SVHN in {options.path}", classes, train, test, options)


def _locate(options: Options, progress: Progress | None) -> list[Path]:
    return find_or_fetch(_FILES, options, progress, title="SVHN", folders=("SVHN",))


def _read(path: Path) -> Arrays:
    """Return images ``[n, 3, 32, 32]`` and labels ``[n]`` of a MATLAB file."""
    try:
        content = loadmat(path)
        images, labels = content["X"], content["y"]
    except KeyError as error:
        raise InputError(f"{path} has no array {error}", "get the file again") from error
    except MemoryError:
        raise
    # scipy raises nearly anything on a damaged file.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read: {reason}", "get the file again") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != 3:
        raise InputError(
            f"{path}: X is {images.dtype} {list(images.shape)}, not bytes [height, width, 3, n]",
            "get the file again",
        )
    numbers = whole_numbers(labels, f"{path}: y", matrix=True)
    numbers[numbers == 10] = 0
    return torch.from_numpy(images.transpose(3, 2, 0, 1).copy()), numbers
