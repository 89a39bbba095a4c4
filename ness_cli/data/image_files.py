"""Image files that somebody names: files, folders, archives and patterns, opened one by one."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ness_cli.data.formats.archive import Directory, Storage, archive_class
from ness_cli.data.formats.image import has_image_suffix
from ness_cli.errors import InputError, UnreadableError


@dataclass(frozen=True)
class NamedImage:
    """An image file that has not been opened.

    Attributes:
        name: What results and messages call it.
        folders: Names of the folders that it lies in, the innermost first, as far as its name
            tells.
        open: Opens it; raises ``UnreadableError``.
    """

    name: str
    folders: tuple[str, ...]
    open: Callable[[], BinaryIO]


@contextlib.contextmanager
def named_images(paths: Sequence[str]) -> Iterator[list[NamedImage]]:
    """Provide the images that paths name, in their order; archives stay open inside the block.

    Of folders and archives those files count whose ending is that of an image. A path that is not
    there is taken for a pattern if it can be one, and else for a file that cannot be opened.

    Raises:
        InputError: If a folder or an archive cannot be listed, or has no image in it.
    """
    with contextlib.ExitStack() as stack:
        found: list[NamedImage] = []
        for path in _expanded(paths):
            storage = _storage(path)
            if storage is None:
                found.append(_file(path))
                continue
            stack.callback(storage.close)
            inside = [name for name in storage.names() if has_image_suffix(name)]
            if not inside:
                raise InputError(f"{path}: no images found", "name image files, or folders of them")
            found += [_stored(storage, name) for name in inside]
        yield found


def _expanded(paths: Sequence[str]) -> Iterator[Path]:
    for text in paths:
        path = Path(text)
        is_pattern = "\0" not in text and not path.exists()
        matches = sorted(glob.glob(text, recursive=True)) if is_pattern else []
        yield from map(Path, matches) if matches else [path]


def _storage(path: Path) -> Storage | None:
    """Return what holds files, or ``None`` for a file that is itself the image."""
    if path.is_dir():
        return Directory(path)
    if has_image_suffix(path.name) or not path.is_file():
        return None
    kind = None
    with contextlib.suppress(UnreadableError):  # said when it is opened as an image
        kind = archive_class(path)
    return None if kind is None else kind(path)


def _file(path: Path) -> NamedImage:
    def opened() -> BinaryIO:
        try:
            return path.open("rb")
        except (OSError, ValueError) as error:  # a name with a NUL is none
            reason = getattr(error, "strerror", None) or error
            raise UnreadableError(f"{path} cannot be read: {reason}", "check the path") from error

    return NamedImage(str(path), tuple(reversed(path.parent.parts)), opened)


def _stored(storage: Storage, name: str) -> NamedImage:
    parents = (*storage.path.parts, *PurePosixPath(name).parts[:-1])
    return NamedImage(storage.describe(name), tuple(reversed(parents)), lambda: storage.open(name))
