"""Ways to write files that lose some: the harness must notice every one of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ness_cli import files

Chunks = Iterable[bytes | memoryview]


def _in_place(path: Path, chunks: Chunks, *, durable: bool) -> None:
    """Write into the file itself: who is killed meanwhile leaves half of it."""
    files.make_folder(path.parent)
    with path.open("wb") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())
    files._flush(path.parent)


def _temporary(path: Path, chunks: Chunks) -> Path:
    files.make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.abc.tmp")
    with temporary.open("wb") as file:
        file.writelines(chunks)
    return temporary


def _without_flush(path: Path, chunks: Chunks, *, durable: bool) -> None:
    """Rename what was not flushed: after a power loss the name is there and nothing behind it."""
    os.replace(_temporary(path, chunks), path)
    files._flush(path.parent)


def _without_flush_of_folder(path: Path, chunks: Chunks, *, durable: bool) -> None:
    """Flush the file and not its name, which is not there after a power loss."""
    temporary = _temporary(path, chunks)
    files._flush(temporary)
    os.replace(temporary, path)


def _renamed_first(path: Path, chunks: Chunks, *, durable: bool) -> None:
    """Rename before all is written, and flush then."""
    files.make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.abc.tmp")
    with temporary.open("wb") as file:
        file.writelines(chunks)
        os.replace(temporary, path)
        file.flush()
        os.fsync(file.fileno())
    files._flush(path.parent)


def _silent(path: Path, chunks: Chunks, *, durable: bool) -> None:
    """Take no notice of what the system refuses."""
    with contextlib.suppress(OSError):
        _WHOLE(path, chunks, durable=durable)


def _past_the_layer(path: Path, chunks: Chunks, *, durable: bool) -> None:
    """Write by calls that nobody counts."""
    with _OPEN(path, "wb") as file:
        file.writelines(chunks)


_WHOLE, _OPEN = files._write, open  # as they are before they are replaced
WRITERS: dict[str, Callable[..., None]] = {
    "in place": _in_place,
    "without flush": _without_flush,
    "without flush of the folder": _without_flush_of_folder,
    "renamed first": _renamed_first,
    "silent": _silent,
    "past the layer": _past_the_layer,
}
"""Every broken writer by its name."""


def use(name: str) -> None:
    """Have this process write its files so."""
    files._write = WRITERS[name]
