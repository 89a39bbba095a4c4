"""Data sets that torchvision reads without unpickling anything, and SVHN, MNIST and its relatives.

Its classes for CIFAR and ImageNet unpickle; CIFAR has sources of its own here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ness_cli.data.dataset import Dataset
from ness_cli.data.formats import mnist_and_svhn
from ness_cli.data.formats.archive import expanded
from ness_cli.data.formats.content import sha256_of_paths
from ness_cli.data.formats.decoded import DecodedDataset, ImageKey
from ness_cli.data.formats.image import Form, is_grey_mode
from ness_cli.errors import InputError, MissingFilesError, NessError
from ness_cli.settings.sources.base import TorchvisionClassSettings
from ness_cli.settings.sources.torchvision import Options
from ness_cli.vision_libraries import import_torchvision

if TYPE_CHECKING:
    from ness_cli.console import Progress


@dataclass(frozen=True)
class _Set:
    """Arguments that select training and test images, and the files below the root."""

    files: tuple[str, ...]
    train: Mapping[str, Any]
    test: Mapping[str, Any] | None


def _by_split(folder: str, train: str = "train") -> _Set:
    return _Set((folder,), {"split": train}, {"split": "test"})


_SETS = {
    "Country211": _by_split("country211"),
    "DTD": _by_split("dtd"),
    "EuroSAT": _Set(("eurosat",), {}, None),
    "FGVCAircraft": _by_split("fgvc-aircraft-2013b", "trainval"),
    "Flowers102": _by_split("flowers-102"),
    "Food101": _by_split("food-101"),
    "GTSRB": _by_split("gtsrb"),
    "OxfordIIITPet": _by_split("oxford-iiit-pet", "trainval"),
    "RenderedSST2": _by_split("rendered-sst2"),
    "STL10": _by_split("stl10_binary"),
    "USPS": _Set(("usps.bz2", "usps.t.bz2"), {"train": True}, {"train": False}),
}


def content_hash(options: Options | TorchvisionClassSettings, progress: Progress) -> str:
    """Return the SHA-256 of the data set's files, downloaded if need be.

    Raises:
        InputError: If files are missing or cannot be read.
    """
    if isinstance(options, TorchvisionClassSettings):
        return sha256_of_paths(mnist_and_svhn.locate(options, progress), progress)
    _splits(options, progress)
    root = expanded(options.path)
    return sha256_of_paths([root / name for name in _SETS[options.dataset].files], progress)


@contextlib.contextmanager
def opened(
    options: Options | TorchvisionClassSettings, progress: Progress | None
) -> Iterator[Dataset]:
    """Provide the images.

    Raises:
        InputError: If files are missing or damaged.
        SystemRefusedError: If torchvision cannot be imported.
    """
    if isinstance(options, TorchvisionClassSettings):
        yield mnist_and_svhn.read(options, progress)
    else:
        yield TorchvisionDataset(_splits(options, progress), options)


class TorchvisionDataset(DecodedDataset):
    """The images of one of torchvision's data sets.

    Args:
        splits: torchvision's objects by split.
        options: Size and channels to bring the images to.
    """

    def __init__(self, splits: Mapping[str, Any], options: Options) -> None:
        self._splits = splits
        self._title = options.dataset
        labels = {split: _labels(each, options.dataset) for split, each in splits.items()}
        super().__init__(_class_names(splits["train"], labels), labels, options)

    def decode(self, key: ImageKey, form: Form) -> NDArray[np.uint8]:
        """Return an image brought to a form; errors name its number."""
        return form.of_image(self._image(key), self.describe(key))

    def is_grey(self, key: ImageKey) -> bool:
        """Return whether an image is stored as grey; errors name its number."""
        return is_grey_mode(self._image(key))

    def describe(self, key: ImageKey) -> str:
        """Return the name of the data set, the split and the number, counted from 0."""
        return f"{self._title}: {key[0]} image {key[1]}"

    def _image(self, key: ImageKey) -> Any:
        split, position = key
        try:
            return self._splits[split][position][0]
        except MemoryError:
            raise
        # Whatever torchvision and Pillow raise on a damaged file.
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise InputError(
                f"{self.describe(key)} cannot be read: {reason}", "get the data set again"
            ) from error


def _splits(options: Options, progress: Progress | None) -> dict[str, Any]:
    """Return torchvision's objects by split, downloading what is missing if that is allowed."""
    kind = getattr(import_torchvision().datasets, options.dataset)
    found = _SETS[options.dataset]
    root = expanded(options.path)
    may_download = options.download and progress is not None
    if may_download and progress is not None and not (root / found.files[0]).exists():
        progress.note(f"torchvision downloads {options.dataset} into {root}")
    try:
        return {
            split: kind(root, download=may_download, **arguments)
            for split, arguments in (("train", found.train), ("test", found.test))
            if arguments is not None
        }
    except (NessError, MemoryError):
        raise
    # Networks, archives, decompressors and parsers each fail in their own way.
    except Exception as error:
        reason = str(getattr(error, "reason", error)).partition("\n")[0].rstrip(".")
        reason = reason or type(error).__name__
        raise MissingFilesError(
            f"{options.dataset}: {', '.join(found.files)} not whole in {root}: {reason}",
            "without --dry-run it is downloaded"
            if options.download and progress is None
            else f"put it there as torchvision.datasets.{options.dataset} expects it",
            can_download=options.download and progress is None,
        ) from error


def _labels(dataset: Any, title: str) -> torch.Tensor:
    for name in ("_labels", "targets", "labels"):
        if hasattr(dataset, name):
            return torch.as_tensor(np.asarray(getattr(dataset, name)), dtype=torch.int64)
    for name in ("_samples", "samples"):
        if hasattr(dataset, name):
            return torch.tensor([sample[1] for sample in getattr(dataset, name)])
    raise InputError(
        f"{title}: this version of torchvision keeps its labels elsewhere", "report it, please"
    )


def _class_names(dataset: Any, labels: Mapping[str, torch.Tensor]) -> Sequence[str]:
    if hasattr(dataset, "classes"):
        return [str(name) for name in dataset.classes]
    count = int(torch.cat(list(labels.values())).max()) + 1
    return [f"{label:0{len(str(count - 1))}d}" for label in range(count)]
