"""MNIST, its relatives and SVHN: found or downloaded and checked here, read by torchvision.

torchvision's own classes for MNIST check no file that is already there, take no compressed files,
and unpickle older ones: only its functions that read one file are used.
"""

from __future__ import annotations

import contextlib
import gzip
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.io import loadmat
from scipy.io.matlab import matfile_version

from ness_cli.data.dataset import ArrayDataset
from ness_cli.data.formats.download import PublicFile, find_or_fetch, md5_of
from ness_cli.data.formats.idx_labels import owner_of
from ness_cli.data.formats.labels import Arrays, whole_numbers
from ness_cli.errors import InputError
from ness_cli.settings.sources.base import TorchvisionClassSettings
from ness_cli.vision_libraries import import_torchvision

if TYPE_CHECKING:
    from ness_cli.console import Progress

_FAMILY = ("MNIST", "FashionMNIST", "KMNIST")
# Bytes that a packed file may have: 40 times those of the largest published one.
_LARGEST, _CHUNK = 2**31, 2**20
_MATLAB_5 = 1  # what scipy calls the format of SVHN's files
_TITLES = {"FashionMNIST": "Fashion-MNIST"}
# All relatives use the same file names: what lies in the wrong folder would pass unnoticed, as it
# did where Fashion-MNIST was read with a loader of MNIST. torchvision knows the checksums of packed
# files only; for KMNIST none of unpacked files could be found, its labels tell it apart.
_UNPACKED_MD5 = {
    "6bbc9ace898e44ae57da46a324031adb": "MNIST",
    "a25bea736e30d166cdddb491f175f624": "MNIST",
    "2646ac647ad5339dbf082846283269ea": "MNIST",
    "27ae3e4e09519cfbb04c329615203637": "MNIST",
    "f4a8712d7a061bf5bd6d2ca38dc4d50a": "Fashion-MNIST",
    "9018921c3c673c538a1fc5bad174d6f9": "Fashion-MNIST",
    "8181f5470baa50b63fa0f6fddb340f0a": "Fashion-MNIST",
    "15d484375f8d13e6eb1aabb0c3f46965": "Fashion-MNIST",
}


def locate(options: TorchvisionClassSettings, progress: Progress | None) -> list[Path]:
    """Return where the files are, refusing those of another data set.

    Published files of MNIST and its relatives are recognised, packed or not; so are their labels in
    files that were packed anew. Files that were changed are taken as they are.

    Raises:
        InputError: If files are missing, cannot be read, or belong to another data set.
        SystemRefusedError: If torchvision cannot be imported.
    """
    name = options.dataset
    # Downloads go where torchvision puts them: a folder of the data set's own.
    folders = (f"{name}/raw", name, "raw") if name in _FAMILY else (name,)
    files = _files(_class(name))
    found = find_or_fetch(files, options, progress, title=title(name), folders=folders)
    for path in found if name in _FAMILY else ():
        if path.is_dir():
            raise InputError(
                f"{path} is a folder, and there is no file {path.name} in it",
                "put the file itself there",
            )
        owner = _owners().get(md5_of(path))
        if owner is None and "labels" in path.name:
            owner = owner_of(_read_idx(path))
        if owner not in (title(name), None):
            raise InputError(
                f"{path} is a file of {owner}, not of {title(name)}",
                f"put each data set into a folder of its own: {name}/raw",
            )
    return found


def read(options: TorchvisionClassSettings, progress: Progress | None) -> ArrayDataset:
    """Return the images; errors as in ``locate``, and for files that are damaged."""
    name, paths = options.dataset, locate(options, progress)
    if name in _FAMILY:
        images, labels, test_images, test_labels = map(_read_idx, paths)
        train, test = (images[:, None], labels), (test_images[:, None], test_labels)
    else:
        train, test = (
            _read_svhn(path, split) for path, split in zip(paths, ("train", "test"), strict=True)
        )
    # torchvision's names of digits are "0 - zero".
    classes = [each.partition(" - ")[0] for each in getattr(_class(name), "classes", "0123456789")]
    return ArrayDataset(f"{title(name)} in {options.path}", classes, train, test, options)


def title(name: str) -> str:
    """Return what messages call a data set that torchvision calls ``name``."""
    return _TITLES.get(name, name)


def _class(name: str) -> Any:
    return getattr(import_torchvision().datasets, name)


def _files(kind: Any) -> list[PublicFile]:
    """Return the files of one of torchvision's classes."""
    if hasattr(kind, "split_list"):
        urls = (kind.split_list[split] for split in ("train", "test"))
        return [PublicFile(name, url, md5) for url, name, md5 in urls]
    return [
        PublicFile(name, f"{kind.mirrors[0]}{name}", md5, name.removesuffix(".gz"))
        for name, md5 in kind.resources
    ]


@cache
def _owners() -> dict[str, str]:
    """Return the data set that every published file of the family belongs to, by MD5."""
    packed = {file.md5: title(name) for name in _FAMILY for file in _files(_class(name))}
    return packed | _UNPACKED_MD5


def _read_idx(path: Path) -> torch.Tensor:
    """Return images, uint8 ``[n, h, w]``, or labels, int64 ``[n]``, of an idx file."""
    datasets = import_torchvision().datasets.mnist
    read_file = datasets.read_label_file if "labels" in path.name else datasets.read_image_file
    with _refusals(path), _unpacked(path) as file:
        found: torch.Tensor = read_file(file)
        return found


def _read_svhn(path: Path, split: str) -> Arrays:
    """Return images ``[n, 3, 32, 32]`` and labels ``[n]`` of a MATLAB file."""
    kind = _class("SVHN")
    # Files that were changed are taken as they are.
    unchecked = type("SVHN", (kind,), {"_check_integrity": lambda self: True})
    with _refusals(path):
        if matfile_version(str(path))[0] != _MATLAB_5:  # others declare any size without having it
            raise ValueError("it is no file of MATLAB 5")
        # Where labels are no whole numbers, torchvision rounds them in silence.
        whole_numbers(loadmat(path, variable_names=["y"])["y"], f"{path}: y", matrix=True)
        found = unchecked(path.parent, split)
        return torch.from_numpy(np.ascontiguousarray(found.data)), torch.from_numpy(found.labels)


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Provide a file that may be compressed as one that is not."""
    with path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    if not is_packed:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / path.stem
        with gzip.open(path) as packed, target.open("xb") as out:
            while (chunk := packed.read(_CHUNK)) and out.tell() <= _LARGEST:
                out.write(chunk)
            if out.tell() > _LARGEST:
                raise ValueError(f"it unpacks to more than {_LARGEST} bytes")
        yield target


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except (InputError, MemoryError):
        raise
    # torchvision, scipy and gzip raise nearly anything on a damaged file.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} cannot be read: {reason}", "get the file again") from error
