"""Files that are no use as images: found all at once, named in one message, with a way to go on."""

from __future__ import annotations

import glob
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ness_cli.data.formats.archive import Storage
from ness_cli.data.formats.image import examined, pillow_warnings
from ness_cli.errors import InputError, UnreadableError

_MOST = 50  # lines of one message


@dataclass(frozen=True)
class ImageFile:
    """Where an image lies.

    Attributes:
        storage: Index of its storage.
        position: Its place in the storage's reading order.
        name: Its name in the storage.
        within: Its name below the class folder.
        path: Its name below the folder that the splits or classes are in: ``train/ant/1.png``.
    """

    storage: int
    position: int
    name: str
    within: str
    path: str


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be used.

    Attributes:
        path: Its name below the folder that the splits or classes are in.
        what: One line: where it lies and what is wrong with it.
        pattern: What leaves it out as part of ``data.exclude``.
        image: Where it lies, if it is listed as an image.
        is_misplaced: Whether it may be an image, but belongs to no class.
    """

    path: str
    what: str
    pattern: str
    image: ImageFile | None = None
    is_misplaced: bool = False

    @classmethod
    def no_image(cls, path: str, description: str) -> BadFile:
        """Return a file whose ending no image has; its pattern is for all of this ending."""
        what = f"{description} is not an image: Pillow reads no such ending"
        ending = PurePosixPath(path).suffix
        return cls(path, what, f"*{glob.escape(ending)}" if ending else glob.escape(path))

    @classmethod
    def misplaced(cls, path: str, description: str) -> BadFile:
        """Return an image that belongs to no class."""
        what = (
            f"{description} lies outside of the class folders"
            " (train/CLASS/*, test/CLASS/*, or CLASS/*)"
        )
        return cls(path, what, glob.escape(path), is_misplaced=True)


@dataclass(frozen=True)
class Examined:
    """An image that can be read.

    Attributes:
        file: Where it lies.
        mode: Pillow's name for how its pixels are stored.
        pixels: In colour, uint8 ``[3, h, w]``.
    """

    file: ImageFile
    mode: str
    pixels: NDArray[np.uint8]


def examine(
    storages: Sequence[Storage], files: Sequence[ImageFile], advance: Callable[[int], object]
) -> Iterator[Examined | BadFile]:
    """Decode every file and yield what is in it, or what is wrong with it.

    Args:
        storages: The open storages.
        files: The files, in any order; they are read in that of their storages.
        advance: Told of files read.
    """
    with pillow_warnings():
        for file in sorted(files, key=lambda file: (file.storage, file.position)):
            storage = storages[file.storage]
            try:
                with storage.open(file.name) as data:
                    yield Examined(file, *examined(data, storage.describe(file.name)))
            except UnreadableError as error:
                yield BadFile(file.path, error.what, glob.escape(file.path), file)
            advance(1)


def refusal(found: Sequence[BadFile], excluded: Sequence[str] = ()) -> InputError:
    """Return one error that names all files, and what to type to go on without them.

    Args:
        found: The files.
        excluded: Patterns that leave files out already.
    """
    patterns = list(dict.fromkeys([*excluded, *(file.pattern for file in found)]))
    listed = json.dumps(patterns, ensure_ascii=False)  # YAML too, and easily quoted for a shell
    them = "it" if len(found) == 1 else "them"
    ways = [f"repair or remove {them}"]
    if len(found) <= _MOST:
        ways.append(f"leave {them} out with {shlex.quote(f'data.exclude={listed}')}")
    if not any(file.is_misplaced for file in found):
        ways.append("skip what cannot be read with data.on_error=skip")
    remedy = " or ".join(ways)
    if len(found) == 1:
        return InputError(found[0].what, remedy)
    lines = [f"{len(found)} files cannot be used:", *(file.what for file in found[:_MOST])]
    if len(found) > _MOST:
        lines.append(f"and {len(found) - _MOST} more; see: ness datasets check PATH")
    return InputError("\n  ".join(lines), remedy)
