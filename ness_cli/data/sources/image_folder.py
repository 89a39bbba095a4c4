"""The user's own images: train/CLASS/* and test/CLASS/*, or one folder of classes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ness_cli.data.cut import choose, cut
from ness_cli.data.image_tree import ImageTree
from ness_cli.data.raw import RawSplit, RawStream, RawTask
from ness_cli.errors import InputError, SettingsError
from ness_cli.settings.sources.image_folder import Options

SPLITS = ("train", "test")


@dataclass(frozen=True)
class _File:
    """A file: position of its tree in ``data.path``, and its name there."""

    tree: int
    name: str


Listing = dict[str, dict[str, list[_File]]]  # split -> class -> files


def _paths(options: Options) -> list[Path]:
    paths = [options.path] if isinstance(options.path, str) else list(options.path)
    return [Path(path).expanduser() for path in paths]


def content_hash(options: Options) -> str:
    """Return the SHA-256 over the contents of all paths, in the order given."""
    hashes = [ImageTree(path).content_hash() for path in _paths(options)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def read(options: Options) -> RawStream:
    """Return the stream; image files are decoded when a task is read, and only those needed.

    Raises:
        InputError: If a path is not usable, or a class lacks training or test images.
        SettingsError: If the classes cannot be cut as asked.
    """
    trees = [ImageTree(path) for path in _paths(options)]
    listing = _list(trees, options)
    groups = cut(list(listing["train"]), options)
    files = {
        name: {
            "train": _limited(listing["train"][name], name, options),
            "test": listing["test"][name],
        }
        for group in groups
        for name in group
    }
    shape = _image_shape(trees, files, options)
    tasks = []
    for group in groups:
        counts = [sum(len(files[name][split]) for name in group) for split in SPLITS]
        pick = partial(_read_split, trees, {name: files[name] for name in group}, shape, options)
        title = group[0] if len(group) == 1 else f"{group[0]} .. {group[-1]}"
        tasks.append(RawTask(title, group, *counts, pick))
    return RawStream(tuple(tasks), shape)


# -- listing -------------------------------------------------------------------------------------


def _list(trees: list[ImageTree], options: Options) -> Listing:
    """Return files by split and class, sorted by name within each class."""
    found: Listing = {"train": {}, "test": {}, "": {}}
    for number, tree in enumerate(trees):
        top = _wrapping_folder(tree.names)
        for name in tree.names:
            parts = PurePosixPath(name).parts[top:]
            split = parts[0] if parts[0] in SPLITS and len(parts) > 2 else ""
            if len(parts) < (3 if split else 2):
                raise InputError(
                    f"data.path: {tree.path}: {name} is in no class folder",
                    "expected train/CLASS/IMAGE and test/CLASS/IMAGE, or CLASS/IMAGE",
                )
            label = parts[1] if split else parts[0]
            found[split].setdefault(label, []).append(_File(number, name))
    for classes in found.values():
        for files in classes.values():
            files.sort(key=lambda file: (PurePosixPath(file.name).name, file.tree, file.name))
    plain = found.pop("")
    places = ", ".join(str(tree.path) for tree in trees)
    if plain and any(found.values()):
        stray = min(plain)
        raise InputError(
            f"data.path: {places}: the folder {stray!r} stands beside train and test",
            "put every class folder into train and test, or into neither",
        )
    if plain:
        found = _split_by_fraction(plain, options)
    if not found["train"]:
        raise InputError(f"data.path: {places}: there are no images")
    for name in sorted({*found["train"], *found["test"]}):
        for split in SPLITS:
            if not found[split].get(name):
                raise InputError(f"data.path: {places}: class {name!r} has no {split} images")
    return found


def _wrapping_folder(names: list[str]) -> int:
    """Return 1 if everything lies in one folder that is neither a split nor a class."""
    parts = [PurePosixPath(name).parts for name in names]
    tops = {p[0] for p in parts}
    if len(tops) != 1 or tops & set(SPLITS) or min(map(len, parts)) < 3:
        return 0
    return 1


def _split_by_fraction(plain: dict[str, list[_File]], options: Options) -> Listing:
    if options.test_fraction is None:
        raise SettingsError(
            "data.test_fraction: needed, because the images are not divided into train and test",
            "set for example data.test_fraction=0.2",
        )
    result: Listing = {"train": {}, "test": {}}
    for name, files in plain.items():
        num_test = int(len(files) * options.test_fraction)
        chosen = set(
            choose(len(files), num_test, seed=options.split_seed, purpose=f"test-split {name}")
        )
        result["test"][name] = [file for i, file in enumerate(files) if i in chosen]
        result["train"][name] = [file for i, file in enumerate(files) if i not in chosen]
    return result


def _limited(files: list[_File], name: str, options: Options) -> list[_File]:
    positions = choose(
        len(files), options.limit_per_class, seed=options.split_seed, purpose=f"limit {name}"
    )
    return [files[position] for position in positions]


# -- decoding ------------------------------------------------------------------------------------


def _open(content: bytes, place: str) -> Image.Image:
    """Return the first frame of an image file, decoded.

    Raises:
        InputError: If it is no image, is cut short, or is suspiciously large.
    """
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{place} cannot be read as an image: {error}", "remove it") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{place}: {error}", "remove it, or make it smaller") from error
    return image


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")


def _pixels(image: Image.Image, shape: tuple[int, int, int], *, resize: bool) -> np.ndarray:
    """Return uint8 ``[c, h, w]``.

    16-bit grey keeps its upper byte; transparency is laid over black; palettes are looked up.
    """
    channels, height, width = shape
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if resize and image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def _image_shape(
    trees: list[ImageTree], files: dict[str, dict[str, list[_File]]], options: Options
) -> tuple[int, int, int]:
    """Return ``(c, h, w)``: as set, else as the first image; ``auto`` looks at one per class."""
    first = [splits["train"][0] for splits in files.values()]
    probes = first if options.channels == "auto" else first[:1]
    images = []
    for number, tree in enumerate(trees):
        wanted = {file.name for file in probes if file.tree == number}
        images += [_open(content, name) for name, content in tree.read(wanted)]
    grey = options.channels == "grey" or (
        options.channels == "auto" and all(_is_grey(image) for image in images)
    )
    if options.size is None:
        width, height = images[0].size
    elif isinstance(options.size, int):
        height = width = options.size
    else:
        height, width = options.size
    return (1 if grey else 3, height, width)


def _read_split(
    trees: list[ImageTree],
    files: dict[str, dict[str, list[_File]]],
    shape: tuple[int, int, int],
    options: Options,
    split: str,
    advance: Callable[[int], None],
) -> RawSplit:
    """Decode one split of one task, class by class in task order, files by name."""
    wanted = [(label, file) for label, s in enumerate(files.values()) for file in s[split]]
    images = torch.empty((len(wanted), *shape), dtype=torch.uint8)
    labels = torch.tensor([label for label, _ in wanted], dtype=torch.int64)
    slots = {(file.tree, file.name): slot for slot, (_, file) in enumerate(wanted)}
    resize = options.size is not None
    for number, tree in enumerate(trees):
        names = {name for tree_number, name in slots if tree_number == number}
        for name, content in tree.read(names):
            image = _open(content, f"{tree.path}: {name}")
            if options.channels == "auto" and shape[0] == 1 and not _is_grey(image):
                raise InputError(
                    f"{tree.path}: {name} is in colour, others are grey",
                    "set data.channels=rgb or grey",
                )
            if not resize and image.size != (shape[2], shape[1]):
                raise InputError(
                    f"{tree.path}: {name} has {image.size[0]} x {image.size[1]} pixels, "
                    f"the first image {shape[2]} x {shape[1]}",
                    "set data.size, for example data.size=32",
                )
            pixels = _pixels(image, shape, resize=resize)
            images[slots[number, name]] = torch.from_numpy(np.ascontiguousarray(pixels))
            advance(1)
    return RawSplit(images, labels)
