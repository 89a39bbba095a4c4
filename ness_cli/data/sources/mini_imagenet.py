"""miniImageNet (Vinyals et al. 2016), from the usual pickles, read with a restricted loader.

Two layouts: ``train.pkl`` and ``test.pkl`` hold ``images`` and ``labels`` 0..99, 500 and 100 of
each class, as GPM, SGP and NESS read them. The three cache files of few-shot learning hold 64, 16
and 20 classes with 600 images each, ``image_data`` and ``class_dict``, and no test images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ness_cli.data.dataset import ArrayDataset, Dataset
from ness_cli.data.formats import safe_pickle
from ness_cli.data.formats.archive import expanded
from ness_cli.data.formats.content import sha256_of_paths
from ness_cli.data.formats.labels import Arrays, joined, whole_numbers
from ness_cli.errors import InputError, MissingFilesError
from ness_cli.settings.sources.mini_imagenet import Options

if TYPE_CHECKING:
    from ness_cli.console import Progress

_FOLDERS = ("", "MiniImageNet", "mini-imagenet", "miniimagenet")
_SPLIT_FILES = ("train.pkl", "test.pkl")
_CACHE_FILES = tuple(f"mini-imagenet-cache-{part}.pkl" for part in ("train", "val", "test"))
_NUM_CLASSES = 100


def content_hash(options: Options, progress: Progress) -> str:
    """Return the SHA-256 of the files."""
    return sha256_of_paths(_locate(options), progress)


@contextlib.contextmanager
def opened(options: Options, progress: Progress | None) -> Iterator[Dataset]:
    """Provide the images.

    Raises:
        InputError: If files are missing, damaged, or not what they should be.
    """
    paths = _locate(options)
    title = f"miniImageNet in {options.path}"
    if len(paths) == len(_SPLIT_FILES):
        classes = [f"{number:02d}" for number in range(_NUM_CLASSES)]
        train, test = map(_read_split, paths)
        yield ArrayDataset(title, classes, train, test, options)
    else:
        classes, arrays = _read_cache(paths)
        yield ArrayDataset(title, classes, arrays, None, options)


def _locate(options: Options) -> list[Path]:
    root = expanded(options.path)
    for names in (_SPLIT_FILES, _CACHE_FILES):
        for folder in _FOLDERS:
            paths = [root / folder / name for name in names]
            if all(path.exists() for path in paths):
                return paths
    raise MissingFilesError(
        f"miniImageNet: neither {' and '.join(_SPLIT_FILES)} nor {', '.join(_CACHE_FILES)} in"
        f" {root} or a folder MiniImageNet in it",
        f"put them into {root} (it is no public download, and no checksum is published); or use"
        " data.source=image-folder",
    )


def _load(path: Path, *keys: str) -> list[Any]:
    try:
        with path.open("rb") as file:
            content = safe_pickle.load(file, str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the file") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise InputError(
            f"{path} has no {missing[0]!r}", f"it should be a dict of {' and '.join(keys)}"
        )
    return [content[key] for key in keys]


def _read_split(path: Path) -> Arrays:
    images, labels = _load(path, "images", "labels")
    return _images(images, path), whole_numbers(labels, f"{path}: labels", matrix=True)


def _read_cache(paths: Sequence[Path]) -> tuple[list[str], Arrays]:
    classes: list[str] = []
    parts: list[tuple[str, Arrays]] = []
    for path in paths:
        data, members = _load(path, "image_data", "class_dict")
        pixels = _images(data, path)
        for name in _names(members, path):
            index = _index(members[name], len(pixels), f"{path}: images of class {name!r}")
            parts.append((str(path), (pixels[index], torch.full((len(index),), len(classes)))))
            classes.append(str(name))
    return classes, joined(parts)


def _names(members: Any, path: Path) -> list[Any]:
    """Return the names of classes, sorted."""
    kinds = {type(name) for name in members} if isinstance(members, Mapping) else set()
    if kinds not in ({str}, {int}):
        raise InputError(
            f"{path}: class_dict is no dict of classes",
            "its keys should be the names of classes, all text or all whole numbers",
        )
    return sorted(members)


def _index(values: Any, num_images: int, what: str) -> torch.Tensor:
    """Return which images belong to a class, int64 ``[n]``."""
    index = whole_numbers(values, what)
    wrong = index[(index < 0) | (index >= num_images)]
    if len(wrong):
        raise InputError(
            f"{what}: there is no image {int(wrong[0])}, they are numbered 0 to {num_images - 1}",
            "get the file again",
        )
    return index


def _refuse_repeated(images: Sequence[Any]) -> None:
    """Refuse a list in which one array stands often: a small file could ask for any memory.

    Raises:
        TypeError: If it has something but arrays.
        ValueError: If one of them is there more than once.
    """
    if not all(isinstance(image, np.ndarray) for image in images):
        raise TypeError("they are no arrays")
    if len({id(image) for image in images}) < len(images):
        raise ValueError("one array is there more than once")


def _images(data: Any, path: Path) -> torch.Tensor:
    """Return images ``[n, 3, h, w]`` from arrays ``[h, w, 3]``, in a list or stacked."""
    try:
        if not isinstance(data, np.ndarray):
            data = list(data)
            _refuse_repeated(data)
        array = data if isinstance(data, np.ndarray) and data.ndim == 4 else np.stack(data)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}: images: {error}", "images are equal in size, [h, w, 3]"
        ) from error
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
        raise InputError(
            f"{path}: images are {array.dtype} {list(array.shape)}",
            "they should be bytes [h, w, 3]",
        )
    # A copy always: what comes out of a pickle cannot be written to, and torch wants to.
    return torch.from_numpy(np.array(array.transpose(0, 3, 1, 2), order="C"))
