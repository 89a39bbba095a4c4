"""Image files in a directory, a zip or a tar, listed and read without unpacking anything."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ness_cli.errors import InputError

_BLOCK = 1 << 20


class ImageTree:
    """Files by relative path with forward slashes, in listing order.

    Hidden files and folders and what operating systems leave behind are passed over. Links inside
    a tar are not followed.

    Args:
        path: A directory, a zip, or a tar (plain or compressed).

    Raises:
        InputError: If there is nothing at ``path`` or it is none of these.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            found = (p for p in path.rglob("*") if p.is_file())
            names = [p.relative_to(path).as_posix() for p in found]
        elif not path.exists():
            raise InputError(f"data.path: {path} is not there")
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                names = [member.name for member in tar if member.isfile()]
        else:
            raise InputError(f"data.path: {path} is neither a directory nor a zip nor a tar")
        self.names = [name for name in names if not _is_clutter(name)]

    def content_hash(self) -> str:
        """Return the SHA-256 of the archive, or of all names and contents of the directory."""
        total = hashlib.sha256()
        if self.path.is_dir():
            for name in sorted(self.names):
                total.update(name.encode() + b"\0")
                total.update(_hash_of(self.path / name))
        else:
            total.update(_hash_of(self.path))
        return total.hexdigest()

    def read(self, names: set[str]) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of the given files, in the order that is fastest to read.

        Raises:
            InputError: If the archive is damaged.
        """
        try:
            if self.path.is_dir():
                for name in sorted(names):
                    yield name, (self.path / name).read_bytes()
            elif zipfile.is_zipfile(self.path):
                with zipfile.ZipFile(self.path) as archive:
                    for name in self.names:
                        if name in names:
                            yield name, archive.read(name)
            else:
                yield from self._read_tar(names)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            raise InputError(f"data.path: {self.path} is damaged: {error}") from error

    def _read_tar(self, names: set[str]) -> Iterator[tuple[str, bytes]]:
        with tarfile.open(self.path) as tar:
            for member in tar:
                if member.name in names and member.isfile():
                    file = tar.extractfile(member)
                    assert file is not None
                    with contextlib.closing(file):
                        yield member.name, file.read()


def _is_clutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1] in (
        "Thumbs.db",
        "desktop.ini",
    )


def _hash_of(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()

