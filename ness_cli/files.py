"""Files written as a whole or not at all, and JSON documents in them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import reprlib
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ness_cli.errors import DamagedError, InputError, SystemRefusedError
from ness_cli.file_kinds import require_file
from ness_cli.hashing import sha256_of_text
from ness_cli.record_shapes import Shape

_SEAL = "seal"
_SEAL_LENGTH = 64  # SHA-256, in hexadecimal digits
# Of this process: whoever writes must not be able to leave them out.
_guards: list[tuple[Path, Callable[[], None]]] = []


@contextlib.contextmanager
def guarded(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` before a file below a folder is put into place or removed; it may raise."""
    guard = (folder.absolute(), check)
    _guards.append(guard)
    try:
        yield
    finally:
        _guards.remove(guard)


def _ask_guards(path: Path) -> None:
    for folder, check in tuple(_guards):
        if path.absolute().is_relative_to(folder):
            check()


def _replace(temporary: Path, path: Path) -> None:
    """Put what is complete into its place."""
    _ask_guards(path)
    os.replace(temporary, path)


def remove_file(path: Path) -> None:
    """Delete a file, if it is there."""
    _ask_guards(path)
    path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes | memoryview, *, durable: bool = True) -> None:
    """Write a file that is in memory as a whole; see ``write_chunks``."""
    write_chunks(path, [data], size=len(data), durable=durable)


def write_chunks(
    path: Path, chunks: Iterable[bytes | memoryview], *, size: int, durable: bool = True
) -> None:
    """Write a file atomically: temporary name in the same folder, flush to disk, rename.

    Args:
        path: Where to write.
        chunks: The content, piece by piece; a piece is let go when the next one is asked for.
        size: Bytes of all of them.
        durable: Wait until it is on the disk. Otherwise a crash of the machine may take it back,
            and a full disk may show later.

    Raises:
        OSError: If the system refuses; it names the file and the bytes that it would have had.
    """
    try:
        _write(path, chunks, durable=durable)
    except OSError as error:
        text = f"{error.strerror or error}; {size} bytes were to be written"
        raise OSError(error.errno, text, str(path)) from error


def _write(path: Path, chunks: Iterable[bytes | memoryview], *, durable: bool) -> None:
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        _replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _flush(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there; what was made survives a crash."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _flush(made.parent)


def _temporary(path: Path) -> Path:
    """Return a name beside a path that nobody else uses.

    Not one of ``tempfile``, which nobody else may read: a run is shared as the user's umask says.
    """
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def _flush(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on the disk."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write into, that becomes ``path`` if nothing goes wrong.

    What an earlier attempt at the same folder left when it was killed is removed.

    Args:
        path: A folder that does not exist, or is empty.

    Raises:
        OSError: If the system refuses.
    """
    make_folder(path.parent)
    # Without a dot in the middle: ".model.v2.abc.tmp" is not of "model".
    leftovers = re.compile(rf"\.{re.escape(path.name)}\.[^.]+\.tmp")
    for other in path.parent.iterdir():
        if leftovers.fullmatch(other.name):
            shutil.rmtree(other, ignore_errors=True)
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        yield temporary
        for written in (*temporary.rglob("*"), temporary):
            _flush(written)
        _replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush(path.parent)


def remove_leftovers(folder: Path, below: str = "**/") -> None:
    """Remove what writes that were killed halfway left in a folder nobody else writes to.

    Folders that ``whole_folder`` left are its own to remove.

    Args:
        folder: The folder.
        below: Which folders in it belong to it, as a pattern: all, or with ``""`` none.
    """
    for path in folder.glob(f"{below}.*.tmp"):
        if not path.is_dir():
            path.unlink(missing_ok=True)


def write_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Write a JSON document atomically, sorted by key so that equal values give equal files."""
    text = json.dumps(value, indent=2, sort_keys=True) + "\n"
    write_bytes(path, text.encode(), durable=durable)


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its own hash beside its keys, which ``read_json`` checks."""
    # As it reads back: keys that are numbers would be sorted otherwise.
    plain = json.loads(json.dumps(value))
    write_json(path, {**plain, _SEAL: _seal(plain)})


def _seal(value: Mapping[str, Any]) -> str:
    return sha256_of_text(json.dumps(value, sort_keys=True))


def _is_sealed_with(seal: object, value: Mapping[str, Any]) -> bool:
    try:
        return seal == _seal(value)
    except RecursionError:
        return False


def _problem(value: dict[str, Any], shape: Shape) -> str:
    """Return what is wrong with a document that has no seal."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return "it has numbers that are none, or nests without end"
    return shape(value, "")


def _has_broken_seal(seal: object, value: Mapping[str, Any]) -> bool:
    """Return whether a document is not what its seal says; earlier versions sealed none."""
    if seal is not None:
        return not _is_sealed_with(seal, value)
    # The seal itself may have lost its name.
    return any(
        isinstance(own, str)
        and len(own) == _SEAL_LENGTH
        and _is_sealed_with(own, {k: v for k, v in value.items() if k != key})
        for key, own in value.items()
    )


def read_json(
    path: Path, *, remedy: str, schema: str | None = None, shape: Shape | None = None
) -> dict[str, Any]:
    """Return the object in a JSON file that an earlier step wrote, without its seal.

    Args:
        path: The file; it needs no seal: earlier versions wrote none.
        remedy: The command that writes it, for the error message.
        schema: What it must say that it is, if it says so: ``ness.train/1``.
        shape: What it must look like; a seal tells that by itself.

    Raises:
        InputError: If the file is not there, of another version, or no file at all.
        DamagedError: If it is not what was written.
        SystemRefusedError: If the system does not let it be read.
    """
    require_file(path, remedy)
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing", remedy) from None
    except OSError as error:
        raise SystemRefusedError(
            f"{path} cannot be read: {error.strerror or error}",
            "put it right and run the same command again",
        ) from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged: {error}", remedy) from error
    if not isinstance(value, dict):
        raise DamagedError(f"{path} is damaged: expected a JSON object", remedy)
    # First: a later version may seal in another way.
    if schema is not None and "schema" in value:
        _require_schema(path, value["schema"], schema, remedy)
    seal = value.pop(_SEAL, None)
    if _has_broken_seal(seal, value):
        problem = "it is not what was written"
    else:
        problem = "" if seal is not None or shape is None else _problem(value, shape)
    if problem:
        raise DamagedError(f"{path} is damaged: {problem}", remedy)
    return value


def _require_schema(path: Path, found: object, known: str, remedy: str) -> None:
    """Refuse a document of another kind or version than the one that is known."""
    (kind, _, version), (known_kind, _, known_version) = (
        found.rpartition("/") if isinstance(found, str) else ("", "", ""),
        known.rpartition("/"),
    )
    if kind != known_kind or not version.isdecimal():
        raise DamagedError(
            f"{path} is damaged: it is {reprlib.repr(found):.40}, not {known!r}", remedy
        )
    if int(version) > int(known_version):
        raise later_version(path, found, known)
    if int(version) < int(known_version):
        raise InputError(
            f"{path} was written by an earlier version of ness: it is {found}, and this one reads"
            f" {known}",
            "prepare the run anew with another --out, or go on with that version",
        )


def later_version(path: Path, found: object, known: object) -> InputError:
    """Return the error of a file that only a later version can read."""
    return InputError(
        f"{path} was written by a later version of ness: it is {found}, and this one reads {known}",
        "go on with that version of ness, or a later one; the file is left as it is",
    )
