"""Which image belongs to which class and split, told from file names alone.

Either ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*``; images may lie deeper inside a class.
One folder wrapped around it all is looked through. Files beside the class folders (a README, a list
of labels) are left alone, unless they are images: those would be lost in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ness_cli.data.pixels import has_image_suffix
from ness_cli.data.storage import Storage
from ness_cli.errors import InputError

SPLITS = ("train", "test")


@dataclass(frozen=True)
class ImageFile:
    """Where an image lies.

    Attributes:
        storage: Index of its storage.
        position: Its place in the storage's reading order.
        name: Its name in the storage.
        within: Its name below the class folder.
    """

    storage: int
    position: int
    name: str
    within: str


Classes = dict[str, list[ImageFile]]


@dataclass(frozen=True)
class Listing:
    """The images of a data set.

    Attributes:
        train: Images by class, sorted by name; all images if there is no ``test`` folder.
        test: Test images by class, or ``None`` if there is no ``test`` folder.
        ignored: Folders next to ``train`` and ``test``.
    """

    train: Classes
    test: Classes | None
    ignored: tuple[str, ...]


@dataclass
class _Found:
    splits: dict[str, Classes] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)

    def add(self, split: str, name: str, image: ImageFile) -> None:
        self.splits.setdefault(split, {}).setdefault(name, []).append(image)


def arrange(storages: Sequence[Storage], exclude: Sequence[str] = ()) -> Listing:
    """Return the images of all storages, merged by class name.

    Args:
        storages: Where the images are.
        exclude: Patterns of files to leave out, matched against ``CLASS/NAME``.

    Images of a class are in the order of their names below the class folder, so that the same
    files give the same order from a directory, a zip and a tar.

    Raises:
        InputError: If there are no images, a file is not an image or lies outside of the class
            folders, or some storages have ``train`` and ``test`` folders and others do not.
    """
    found = _Found()
    for index, storage in enumerate(storages):
        _add_storage(found, index, storage, exclude)
    splits = found.splits
    places = ", ".join(str(storage.path) for storage in storages)
    if not splits:
        raise InputError(f"{places}: no images found", "the layout is train/CLASS/*, test/CLASS/*")
    if "" in splits and len(splits) > 1:
        raise InputError(
            f"{places}: some have train and test folders, others have class folders only",
            "use one layout for all of data.path",
        )
    if splits.keys() == {"test"}:
        raise InputError(f"{places}: there is a test folder and no train folder", "add one")
    for classes in splits.values():
        for images in classes.values():
            images.sort(key=lambda image: (image.within, image.storage))
    return Listing(
        train=splits[""] if "" in splits else splits["train"],
        test=splits.get("test"),
        ignored=tuple(sorted(found.ignored)),
    )


def _add_storage(found: _Found, index: int, storage: Storage, exclude: Sequence[str]) -> None:
    names = storage.names()
    split_names = [tuple(name.split("/")) for name in names]
    depth = _wrapping_depth(split_names)
    has_splits = any(len(parts) >= depth + 3 and parts[depth] in SPLITS for parts in split_names)
    for position, (name, whole) in enumerate(zip(names, split_names, strict=True)):
        split, parts = "", whole[depth:]
        if has_splits and len(parts) > 1:
            split, parts = parts[0], parts[1:]
            if split not in SPLITS:
                found.ignored.add(storage.describe("/".join(whole[: depth + 1])))
                continue
        if len(whole) <= depth or len(parts) < 2:
            if has_image_suffix(name):
                raise InputError(
                    f"{storage.describe(name)} lies outside of the class folders",
                    "the layout is train/CLASS/* and test/CLASS/*, or CLASS/*",
                )
            continue
        if any(fnmatchcase("/".join(parts), pattern) for pattern in exclude):
            continue
        if not has_image_suffix(name):
            raise InputError(
                f"{storage.describe(name)} is not an image: Pillow reads no such ending",
                "remove it, or give it the ending of its format",
            )
        class_name, within = parts[0], "/".join(parts[1:])
        found.add(split, class_name, ImageFile(index, position, name, within))


def _wrapping_depth(split_names: Sequence[tuple[str, ...]]) -> int:
    """Return 1 if a single folder, which is no class and no split, is wrapped around it all."""
    tops = {parts[0] for parts in split_names if len(parts) > 1}
    if len(tops) != 1 or tops & set(SPLITS):
        return 0
    is_class = any(len(parts) == 2 and has_image_suffix(parts[1]) for parts in split_names)
    return 0 if is_class else 1
