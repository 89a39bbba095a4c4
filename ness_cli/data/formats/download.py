"""Files of public data sets: found where torchvision puts them, else downloaded and checked.

A file that is found is taken as it is. One that is downloaded must have the MD5 that its publisher
names, and gets its name only then: what is there is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import secrets
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ness_cli.data.formats.archive import expanded
from ness_cli.errors import InputError, MissingFilesError, SystemRefusedError
from ness_cli.hashing import md5_of_file
from ness_cli.settings.sources.base import PublicSettings

if TYPE_CHECKING:
    from ness_cli.console import Progress

_CHUNK = 1 << 20
_SECONDS = 60
_NETWORK_ERRORS = (OSError, http.client.HTTPException)  # what the disk refuses is another error


@dataclass(frozen=True)
class PublicFile:
    """A file that a data set is published as.

    Attributes:
        name: Its name.
        url: Where it is published.
        md5: MD5 of its content, in hexadecimal.
        unpacked: What it may be called where somebody unpacked it, a file or a folder.
    """

    name: str
    url: str
    md5: str
    unpacked: str = ""


def find_or_fetch(
    files: Sequence[PublicFile],
    options: PublicSettings,
    progress: Progress | None,
    *,
    title: str,
    folders: Sequence[str] = (),
) -> list[Path]:
    """Return where the files are, downloaded if need be.

    Args:
        files: The files.
        options: ``path``, a folder or one of the files themselves, and ``download``.
        progress: Told of downloads; ``None`` forbids them.
        title: What messages call the data set.
        folders: Folders inside ``path`` in which to look too; downloads go into the first of them.

    Raises:
        MissingFilesError: If files are not there; says exactly what to put where.
        InputError: If a download is not the file that was published.
        SettingsError: If ``path`` is in the home of somebody unknown.
        SystemRefusedError: If it cannot be written.
    """
    root = expanded(options.path)
    searched = [root, *(root / folder for folder in folders)]
    home = searched[1] if folders else root
    if _is_a_file_of(root, files):
        # The others lie beside it, and so does whatever is downloaded.
        home = root.parent
        searched = [root, home]
    found = {file: _find(file, searched) for file in files}
    missing = [file for file, path in found.items() if path is None]
    if missing and (progress is None or not options.download):
        raise _missing(missing, home, title, "", can_download=options.download)
    for file in missing:
        assert progress is not None
        try:
            found[file] = _download(file, home, progress)
        except _NETWORK_ERRORS as error:
            reason = getattr(error, "reason", error)
            absent = [each for each, path in found.items() if path is None]
            raise _missing(absent, home, title, f" ({reason})", can_download=False) from error
    return [path for path in found.values() if path is not None]


def _is_a_file_of(path: Path, files: Sequence[PublicFile]) -> bool:
    """Return whether a path is meant as one of the files, there or not yet there."""
    packed = any(path.name == file.name for file in files) and not path.is_dir()
    # The path "." has an empty name, as a file has that is never unpacked.
    return packed or any(file.unpacked and path.name == file.unpacked for file in files)


def _find(file: PublicFile, folders: Sequence[Path]) -> Path | None:
    for folder in folders:
        for path in (folder, folder / file.name):
            if path.name == file.name and path.is_file():
                return path
        for path in (folder, folder / file.unpacked):
            if file.unpacked and path.name == file.unpacked and path.exists():
                # Some programs unpack a file into a folder of its name.
                inside = path / file.unpacked
                return inside if inside.is_file() else path
    return None


def _missing(
    files: Sequence[PublicFile], root: Path, title: str, why: str, *, can_download: bool
) -> MissingFilesError:
    names = ", ".join(file.name for file in files)
    if can_download:
        return MissingFilesError(
            f"{title}: {names} not in {root}",
            "without --dry-run it is downloaded; data.path says where to look",
            can_download=True,
        )
    lines = [f"{file.name} from {file.url} (MD5 {file.md5})" for file in files]
    there = f"{title}: {names} not in {root}"
    return MissingFilesError(
        there + (f" and cannot be downloaded{why}" if why else ""),
        f"put into {root}, or set data.path to where it is: {'; '.join(lines)}",
    )


def _download(file: PublicFile, folder: Path, progress: Progress) -> Path:
    target, part = folder / file.name, folder / f".{file.name}.{secrets.token_hex(4)}"
    if target.is_dir():
        raise InputError(
            f"{target} is a folder, and stands where the file {file.name} is to be downloaded",
            "rename it, or set data.path to another folder",
        )
    with _refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Not a temporary file, which nobody else may read: data is shared as the user's umask says.
        out = part.open("xb")
    try:
        with out:
            md5 = _receive(file, out, progress)
        if md5 != file.md5:
            raise InputError(
                f"{file.url}: MD5 {md5} instead of {file.md5}",
                f"try again, or put the true {file.name} into {folder}",
            )
        with _refusals(folder):
            os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return target


def _receive(file: PublicFile, out: BinaryIO, progress: Progress) -> str:
    """Write what is published under a file's address; return its MD5, in hexadecimal."""
    found = hashlib.md5(usedforsecurity=False)
    with (
        urllib.request.urlopen(file.url, timeout=_SECONDS) as response,
        progress.track(f"downloading {file.name}", _length(response)) as advance,
    ):
        while chunk := response.read(_CHUNK):
            with _refusals(Path(out.name)):
                out.write(chunk)
            found.update(chunk)
            advance(len(chunk))
    with _refusals(Path(out.name)):
        out.flush()
    return found.hexdigest()


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SystemRefusedError(
            f"{path} cannot be written: {error.strerror}",
            "free some space, or set data.path to another folder",
        ) from error


def _length(response: http.client.HTTPResponse) -> int:
    """Return how many bytes are announced, 0 if that is not known."""
    announced = str(response.headers.get("Content-Length"))
    return int(announced) if announced.isdecimal() else 0


def md5_of(path: Path) -> str:
    """Return the MD5 of a file, in hexadecimal.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return md5_of_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the file") from error
