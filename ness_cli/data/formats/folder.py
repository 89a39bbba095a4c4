"""Which image belongs to which class and split, told from file names alone.

Either ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*``; images may lie deeper inside a class.
Beside ``train`` a folder ``val``, ``valid`` or ``validation`` holds the validation images. One
folder wrapped around it all is looked through. Files beside the class folders (a README, a list of
labels) are left alone, unless they are images: those would be lost in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from ness_cli.data.formats.archive import Storage
from ness_cli.data.formats.bad_files import BadFile, ImageFile
from ness_cli.data.formats.image import has_image_suffix
from ness_cli.errors import InputError

SPLITS = ("train", "test")
_VALIDATION = ("val", "valid", "validation")
_SPLIT_OF = {name: name for name in SPLITS} | dict.fromkeys(_VALIDATION, "valid")

Classes = dict[str, list[ImageFile]]


@dataclass(frozen=True)
class Listing:
    """The images of a data set.

    Attributes:
        splits: Images by split and class, sorted by name: ``train``, and ``test`` and ``valid`` if
            there are such folders. Without split folders all are in ``train``.
        ignored: Folders next to ``train`` and ``test``.
        no_images: Files in class folders whose ending is not that of an image.
        misplaced: Images outside of the class folders.
        unused: Patterns that left nothing out.
    """

    splits: dict[str, Classes]
    ignored: tuple[str, ...]
    no_images: tuple[BadFile, ...]
    misplaced: tuple[BadFile, ...]
    unused: tuple[str, ...]

    def files(self) -> Iterator[ImageFile]:
        """Yield all images."""
        for classes in self.splits.values():
            for images in classes.values():
                yield from images

    def without(self, bad: Iterable[BadFile]) -> Listing:
        """Return the listing without bad files, every class still in its place."""
        gone = {file.image for file in bad}
        splits = {
            split: {
                name: [image for image in images if image not in gone]
                for name, images in classes.items()
            }
            for split, classes in self.splits.items()
        }
        return replace(self, splits=splits)


@dataclass
class _Found:
    splits: dict[str, Classes] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)
    no_images: list[BadFile] = field(default_factory=list)
    misplaced: list[BadFile] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def add(self, split: str, name: str, image: ImageFile) -> None:
        self.splits.setdefault(split, {}).setdefault(name, []).append(image)


def arrange(storages: Sequence[Storage], exclude: Sequence[str] = ()) -> Listing:
    """Return the images of all storages, merged by class name.

    Args:
        storages: Where the images are.
        exclude: Patterns of files to leave out, matched against ``CLASS/NAME``, and also against
            ``train/CLASS/NAME`` where there are such folders.

    Images of a class are in the order of their names below the class folder, so that the same
    files give the same order from a directory, a zip and a tar.

    Raises:
        InputError: If there are no images, or some storages have ``train`` and ``test`` folders
            and others do not.
    """
    found = _Found()
    for index, storage in enumerate(storages):
        _add_storage(found, index, storage, exclude)
    splits = found.splits
    paths = ", ".join(str(storage.path) for storage in storages)
    if not splits and not found.misplaced and not found.no_images:
        raise InputError(f"{paths}: no images found", "the layout is train/CLASS/*, test/CLASS/*")
    if not splits and found.misplaced:
        raise InputError(
            f"{paths}: no image lies in the folder of a class ({found.misplaced[0].path} and"
            f" {len(found.misplaced) - 1} more do not)",
            "the layout is train/CLASS/* and test/CLASS/*, or CLASS/*",
        )
    if "" in splits and len(splits) > 1:
        raise InputError(
            f"{paths}: some have train and test folders, others have class folders only",
            "use one layout for all of data.path",
        )
    if splits and not {"", "train"} & splits.keys():
        raise InputError(f"{paths}: there is a test folder and no train folder", "add one")
    for classes in splits.values():
        for images in classes.values():
            images.sort(key=lambda image: (image.within, image.storage))
    return Listing(
        splits={split or "train": classes for split, classes in splits.items()},
        ignored=tuple(sorted(found.ignored)),
        no_images=tuple(found.no_images),
        misplaced=tuple(found.misplaced),
        unused=tuple(pattern for pattern in exclude if pattern not in found.used),
    )


def _add_storage(found: _Found, index: int, storage: Storage, exclude: Sequence[str]) -> None:
    names = storage.names()
    split_names = [tuple(name.split("/")) for name in names]
    depth = _wrapping_depth(split_names)
    has_splits = any(len(parts) >= depth + 3 and parts[depth] in SPLITS for parts in split_names)
    for position, (name, whole) in enumerate(zip(names, split_names, strict=True)):
        split, parts = "", whole[depth:]
        path, description = "/".join(parts) or name, storage.describe(name)
        if has_splits and len(parts) > 1:
            split, parts = _SPLIT_OF.get(parts[0], ""), parts[1:]
            if not split:
                found.ignored.add(storage.describe("/".join(whole[: depth + 1])))
                continue
        is_outside = len(whole) <= depth or len(parts) < 2
        if is_outside and not has_image_suffix(name):
            continue
        if hits := _matching(exclude, path, "/".join(parts)):
            found.used |= hits
        elif is_outside:
            found.misplaced.append(BadFile.misplaced(path, description))
        elif not has_image_suffix(name):
            found.no_images.append(BadFile.no_image(path, description))
        else:
            image = ImageFile(index, position, name, "/".join(parts[1:]), path)
            found.add(split, parts[0], image)


def _matching(patterns: Sequence[str], *names: str) -> set[str]:
    """Return the patterns that match one of the names."""
    return {each for each in patterns if any(fnmatchcase(name, each) for name in names)}


def _wrapping_depth(split_names: Sequence[tuple[str, ...]]) -> int:
    """Return 1 if a single folder, which is no class and no split, is wrapped around it all."""
    tops = {parts[0] for parts in split_names if len(parts) > 1}
    if len(tops) != 1 or tops & set(SPLITS):
        return 0
    is_class = any(len(parts) == 2 and has_image_suffix(parts[1]) for parts in split_names)
    return 0 if is_class else 1
