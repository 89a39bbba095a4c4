"""Hashes of texts and files, in hexadecimal; files are read in chunks, whatever their size."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 20


def sha256_of_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return sha256_of_stream(file)


def sha256_of_stream(file: BinaryIO) -> str:
    """Return the SHA-256 of what is left to read of an open file."""
    return _hash_chunks(hashlib.sha256(), file)


def md5_of_file(path: Path) -> str:
    """Return the MD5 of a file, which archives are published with.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return _hash_chunks(hashlib.md5(usedforsecurity=False), file)


def _hash_chunks(found: hashlib._Hash, file: BinaryIO) -> str:
    while chunk := file.read(_CHUNK):
        found.update(chunk)
    return found.hexdigest()
