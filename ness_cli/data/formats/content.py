"""SHA-256 over the raw content of directories and archives, streamed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ness_cli.data.formats.archive import Directory
from ness_cli.errors import InputError
from ness_cli.hashing import sha256_of_file, sha256_of_stream

if TYPE_CHECKING:
    from ness_cli.console import Progress


def sha256_of_paths(paths: Sequence[Path], progress: Progress) -> str:
    """Return one hash for all paths, in their order and whatever they are called.

    An archive is hashed as the file it is, a directory over its sorted names and their bytes.

    Args:
        paths: Directories and archives that exist.
        progress: Advanced by one for every archive and every file of a directory.

    Raises:
        InputError: If something cannot be read.
    """
    directories = {path: Directory(path) for path in paths if path.is_dir()}
    names = {path: sorted(directory.names()) for path, directory in directories.items()}
    total = sum(len(names.get(path, [""])) for path in paths)
    whole = hashlib.sha256()
    with progress.track("checking the images", total) as advance:
        for path in paths:
            if path not in directories:
                whole.update(b"archive" + bytes.fromhex(readable_sha256(path)))
                advance(1)
                continue
            inner = hashlib.sha256()
            for name in names[path]:
                with directories[path].open(name) as file:
                    # A digest each for name and content: no two trees give the same bytes.
                    content = bytes.fromhex(sha256_of_stream(file))
                    inner.update(hashlib.sha256(os.fsencode(name)).digest() + content)
                advance(1)
            whole.update(b"directory" + inner.digest())
    return whole.hexdigest()


def readable_sha256(path: Path) -> str:
    """Return the SHA-256 of a file that the user gave.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the file") from error
