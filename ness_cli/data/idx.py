"""The idx format of MNIST and its relatives, compressed or not (LeCun, Cortes, Burges).

Two zero bytes, a byte for the type of values (8: unsigned bytes), one for the number of dimensions,
then the dimensions as big-endian 32-bit numbers, then the values.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ness_cli.data.content import sha256_of_paths
from ness_cli.data.dataset import ArrayDataset, Dataset
from ness_cli.data.download import PublicFile, find_or_fetch, md5_of
from ness_cli.data.idx_labels import owner_of
from ness_cli.errors import InputError
from ness_cli.settings.sources.base import PublicSettings
from ness_cli.words import counted

if TYPE_CHECKING:
    from ness_cli.console import Progress

_UNSIGNED_BYTES = 8
_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# All relatives use the same file names: what lies in the wrong folder would pass unnoticed, as it
# did where Fashion-MNIST was read with a loader of MNIST.
MD5 = {
    "MNIST": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "Fashion-MNIST": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    "KMNIST": (
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ),
}
# For KMNIST no checksums of the unpacked files could be found; its labels tell it apart.
_UNPACKED_MD5 = {
    "MNIST": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "Fashion-MNIST": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}
_OWNER = {
    md5: title for known in (MD5, _UNPACKED_MD5) for title, sums in known.items() for md5 in sums
}


@dataclass(frozen=True)
class IdxFiles:
    """The four files of one of these data sets.

    Attributes:
        title: What messages call it.
        base_url: Folder they are published in.
        folder: What torchvision calls their folder.
        classes: Names of the classes.
    """

    title: str
    base_url: str
    folder: str
    classes: Sequence[str]

    def locate(self, options: PublicSettings, progress: Progress | None) -> list[Path]:
        """Return where the files are, refusing those of another data set.

        Published files of all three data sets are recognised, packed or not; so are their labels
        in files that were packed anew. Files that were changed are taken as they are.

        Raises:
            InputError: If files are missing, cannot be read, or belong to another data set.
        """
        files = [
            PublicFile(f"{name}.gz", f"{self.base_url}{name}.gz", md5, name)
            for name, md5 in zip(_NAMES, MD5[self.title], strict=True)
        ]
        # Downloads go where torchvision puts them: a folder of the data set's own.
        folders = (f"{self.folder}/raw", self.folder, "raw")
        found = find_or_fetch(files, options, progress, title=self.title, folders=folders)
        for path in found:
            if path.is_dir():
                raise InputError(
                    f"{path} is a folder, and there is no file {path.name} in it",
                    "put the file itself there",
                )
            owner = _OWNER.get(md5_of(path))
            if owner is None and "labels" in path.name:
                owner = owner_of(read(path, 1))
            if owner not in (self.title, None):
                raise InputError(
                    f"{path} is a file of {owner}, not of {self.title}",
                    f"put each data set into a folder of its own: {self.folder}/raw",
                )
        return found

    def content_hash(self, options: PublicSettings, progress: Progress) -> str:
        """Return the SHA-256 of the files."""
        return sha256_of_paths(self.locate(options, progress), progress)

    @contextlib.contextmanager
    def opened(self, options: PublicSettings, progress: Progress | None) -> Iterator[Dataset]:
        """Provide the images.

        Raises:
            InputError: If files are missing, damaged, or belong to another data set.
        """
        paths = self.locate(options, progress)
        images, labels, test_images, test_labels = (
            read(path, axes) for path, axes in zip(paths, (3, 1, 3, 1), strict=True)
        )
        yield ArrayDataset(
            f"{self.title} in {options.path}",
            self.classes,
            (images[:, None], labels.long()),
            (test_images[:, None], test_labels.long()),
            options,
        )


def read(path: Path, axes: int) -> torch.Tensor:
    """Return the values of an idx file, uint8, in the shape that it declares.

    Args:
        path: The file.
        axes: Number of dimensions that it should have.

    Raises:
        InputError: If it is not an idx file of bytes in so many dimensions, or is cut short.
    """
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        _, kind, num_axes = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{num_axes}I", data[4 : 4 + 4 * num_axes])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(
            f"{path} cannot be read as an idx file: {error}", "get it again"
        ) from error
    values = data[4 + 4 * num_axes :]
    if kind != _UNSIGNED_BYTES or num_axes != axes:
        raise InputError(
            f"{path} holds values of type {kind} in {counted(num_axes, 'dimension')}, not bytes"
            f" (type 8) in {axes}",
            "get it again",
        )
    if len(values) != math.prod(shape):
        raise InputError(
            f"{path} declares {counted(math.prod(shape), 'value')} and holds {len(values)}",
            "get it again",
        )
    return torch.from_numpy(np.frombuffer(values, np.uint8).reshape(shape).copy())
