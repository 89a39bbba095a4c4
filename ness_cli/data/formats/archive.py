"""Files in a directory, a zip or a tar, read in place under one interface.

Nothing is extracted, so no name inside an archive can reach outside of it. Names are relative, with
forward slashes. Hidden files and what file managers leave behind are left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ness_cli.errors import (
    InputError,
    MissingFilesError,
    SettingsError,
    SystemRefusedError,
    UnreadableError,
)

# Bytes that one file of an archive may unpack to: far more than any image, or published part of a
# data set, has. A few thousand bytes may claim more than any memory holds.
_LARGEST = 2**30
_LEFT_BEHIND = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}


class Storage(ABC):
    """A place that holds files.

    Args:
        path: The directory or archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all files, in the order in which they are read fastest."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            UnreadableError: If it cannot be read; the message names it.
            SystemRefusedError: If memory is too small to unpack it.
        """

    def describe(self, name: str) -> str:
        """Return how messages call a file."""
        return f"{self.path}: {name}"

    def close(self) -> None:  # noqa: B027 - a directory holds nothing open
        """Let go of the archive."""


class Directory(Storage):
    """A directory; links inside it are followed, as its owner put them there."""

    def names(self) -> list[str]:
        """Return the names of all files, sorted folder by folder."""
        return [path.relative_to(self.path).as_posix() for path in _walk(self.path, ())]

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; errors as in ``Storage.open``."""
        try:
            return (self.path / name).open("rb")
        except OSError as error:
            raise _unreadable(self.describe(name), error) from error

    def describe(self, name: str) -> str:
        """Return the file's path."""
        return str(self.path / name)


class Zip(Storage):
    """A zip archive."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with _archive_errors(str(path)):
            self._zip = zipfile.ZipFile(path)
        # Of two members with one name the later one counts, as it would when extracted.
        members = sorted(self._zip.infolist(), key=lambda member: member.header_offset)
        self._members = {
            name: member
            for member in members
            # In this order: zipfile asks a member without a name for its last letter.
            if (name := _normal_name(path, member.filename)) and not member.is_dir()
        }

    def names(self) -> list[str]:
        """Return the names of all files, in the order of the archive."""
        return list(self._members)

    def open(self, name: str) -> BinaryIO:
        """Read a file, checked against its CRC; errors as in ``Storage.open``."""
        member = self._members[name]
        _refuse_larger(self.describe(name), member.file_size)
        with _archive_errors(self.describe(name)):
            return io.BytesIO(self._zip.read(member))

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()


class Tar(Storage):
    """A tar archive, compressed or not; links in it are refused, as nothing is extracted."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with _archive_errors(str(path)):
            self._tar = tarfile.open(path)  # noqa: SIM115 - closed by close()
        try:
            with _archive_errors(str(path)):
                members = self._tar.getmembers()
            self._members: dict[str, tarfile.TarInfo] = {}
            for member in members:
                name = _normal_name(path, member.name)
                if member.isdir() or not name:
                    continue
                if not member.isfile():
                    raise InputError(
                        f"{path}: {name} is a link or a device, not a file",
                        "pack the files themselves (tar --dereference --hard-dereference)",
                    )
                self._members[name] = member
        except BaseException:
            self._tar.close()
            raise

    def names(self) -> list[str]:
        """Return the names of all files, in the order of the archive."""
        return list(self._members)

    def open(self, name: str) -> BinaryIO:
        """Read a file; errors as in ``Storage.open``."""
        member = self._members[name]
        _refuse_larger(self.describe(name), member.size)
        with _archive_errors(self.describe(name)):
            file = self._tar.extractfile(member)
            data = b"" if file is None else file.read()
        if len(data) != member.size:
            raise UnreadableError(f"{self.describe(name)} is cut short", "get the archive again")
        return io.BytesIO(data)

    def close(self) -> None:
        """Close the archive."""
        self._tar.close()


def _refuse_larger(what: str, size: int) -> None:
    if size > _LARGEST:
        raise UnreadableError(
            f"{what} would unpack to {size} bytes, more than {_LARGEST}",
            "leave it out, or unpack the archive into a folder yourself",
        )


def expanded(path: str) -> Path:
    """Return a path of a setting with ``~`` expanded.

    Raises:
        SettingsError: If the home directory is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise SettingsError(
            f"data.path: {path}: the home directory is not known", "write the path without ~"
        ) from error


def locate(paths: str | Sequence[str]) -> list[Path]:
    """Return the paths of a setting, ``~`` expanded, after checking that they are there.

    Raises:
        InputError: If one is missing.
        SettingsError: If one is given twice, which would double its images, or is in the home of
            somebody unknown.
    """
    found = [expanded(path) for path in ([paths] if isinstance(paths, str) else paths)]
    seen: set[Path] = set()
    for path in found:
        if not path.exists():
            raise MissingFilesError(
                f"data.path: {path} is not there",
                "set data.path to the folder, zip or tar of your images",
            )
        if path.resolve() in seen:
            raise SettingsError(f"data.path: {path} is given twice", "give every path once")
        seen.add(path.resolve())
    return found


@contextlib.contextmanager
def opened_storages(paths: Sequence[Path]) -> Iterator[list[Storage]]:
    """Hold all storages open, one handle per archive.

    Raises:
        InputError: If one is no directory, zip or tar, or is damaged.
    """
    with contextlib.ExitStack() as stack:
        storages = []
        for path in paths:
            storage = _storage(path)
            stack.callback(storage.close)
            storages.append(storage)
        yield storages


def _storage(path: Path) -> Storage:
    if path.is_dir():
        return Directory(path)
    kind = archive_class(path)
    if kind is None:
        raise InputError(
            f"data.path: {path} is neither a directory nor a zip or tar archive that can be read",
            "set data.path to one of these; if it should be one, get it again",
        )
    return kind(path)


def archive_class(path: Path) -> type[Zip | Tar] | None:
    """Return what reads the archive in a file, ``None`` if it is no archive.

    Raises:
        UnreadableError: If the file cannot be read.
    """
    with _archive_errors(str(path)):
        if zipfile.is_zipfile(path):
            return Zip
        return Tar if tarfile.is_tarfile(path) else None


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        raise InputError(f"{folder} is a link back to a folder around it", "remove the link")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(str(folder), error) from error
    for entry in entries:
        if _is_left_out(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, (*above, real))
        elif entry.is_file():
            yield folder / entry.name
        else:
            raise InputError(
                f"{folder / entry.name} is not a file, or a link that leads nowhere", "remove it"
            )


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def _normal_name(archive: Path, name: str) -> str:
    """Return a member's name without ``./``, or an empty string if it is left out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InputError(
            f"{archive}: the name {name!r} leads out of the archive", "pack the archive anew"
        )
    return "" if any(_is_left_out(part) for part in parts) else "/".join(parts)


@contextlib.contextmanager
def _archive_errors(what: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        # A member may ask for gigabytes to unpack a few bytes with (LZMA).
        raise SystemRefusedError(
            f"{what} asks for more memory than there is", "free some, or leave the file out"
        ) from error
    # Decompressors raise errors of their own (zlib, lzma, zipfile, tarfile, EOFError, RuntimeError
    # for a password); all of them mean that the archive cannot be read.
    except Exception as error:
        raise _unreadable(what, error) from error


def _unreadable(what: str, error: Exception) -> UnreadableError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UnreadableError(f"{what} cannot be read: {reason}", "check the file, or get it again")
