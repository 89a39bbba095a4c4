"""Every path of a run folder, and the lock that lets one process at a time change it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from ness_cli.errors import DamagedError, InputError, LockedError


@dataclass(frozen=True)
class TaskDir:
    """The folder of one task inside a run, ``task-01`` and so on."""

    path: Path
    number: int

    def tensors(self, name: str) -> Path:
        """Return the path of a safetensors file: model, update, covariance, basis, memory."""
        return self.path / f"{name}.safetensors"

    @property
    def checkpoint(self) -> Path:
        """Return the state inside an unfinished task."""
        return self.path / "checkpoint.safetensors"

    @property
    def history(self) -> Path:
        """Return the file with one JSON object per epoch."""
        return self.path / "history.jsonl"

    def record(self, stage: str) -> Path:
        """Return the JSON file that marks ``stage`` (train, subspace, accuracy) as done."""
        return self.path / f"{stage}.json"


@dataclass(frozen=True)
class RunDir:
    """A run folder. It may be moved: nothing in it holds an absolute path that decides anything."""

    path: Path

    @property
    def settings(self) -> Path:
        """Return the resolved settings."""
        return self.path / "settings.yaml"

    @property
    def run(self) -> Path:
        """Return the run's identity: fingerprint, preset, origins, versions."""
        return self.path / "run.json"

    @property
    def stream(self) -> Path:
        """Return the description of the prepared task stream."""
        return self.path / "stream.json"

    @property
    def log(self) -> Path:
        """Return the log that every step appends to."""
        return self.path / "log.txt"

    def task(self, number: int) -> TaskDir:
        """Return the folder of task ``number``, counted from 1."""
        return TaskDir(self.path / f"task-{number:02d}", number)

    def relative(self, path: Path) -> str:
        """Return ``path`` as written in records: relative to the run, with forward slashes."""
        return path.relative_to(self.path).as_posix()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing.

        Raises:
            LockedError: If another process holds it; the message has its pid and host.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        holder = self.path / ".lock-holder.json"
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            who = "another process"
            with contextlib.suppress(OSError, ValueError, KeyError):
                told = json.loads(holder.read_text())
                who = f"process {told['pid']} on {told['host']}"
            raise LockedError(
                f"{self.path} is in use by {who}", "wait for it to end, or stop it"
            ) from None
        try:
            remove_leftovers(self.path)
            write_json(holder, {"host": socket.gethostname(), "pid": os.getpid()})
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file atomically: temporary name in the same folder, flush to disk, rename.

    Args:
        path: Where to write.
        data: The content.
        durable: Wait until it is on the disk. Otherwise a crash of the machine may take it back,
            and a full disk may show later.

    Raises:
        OSError: If the system refuses; it names the file and the bytes that it would have had.
    """
    try:
        _write(path, data, durable=durable)
    except OSError as error:
        text = f"{error.strerror or error}; {len(data)} bytes were to be written"
        raise OSError(error.errno, text, str(path)) from error


def _write(path: Path, data: bytes, *, durable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        # mkstemp makes files private; a run is shared like any other folder of the user.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if durable and os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what writes that were killed halfway left in a folder nobody else writes to."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write a JSON document atomically, sorted by key so that equal values give equal files."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def read_json(path: Path, *, remedy: str) -> dict[str, Any]:
    """Return the object in a JSON file that an earlier step wrote.

    Args:
        path: The file.
        remedy: The command that writes it, for the error message.

    Raises:
        InputError: If the file is not there.
        DamagedError: If it is there and cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing", remedy) from None
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: {error}", remedy) from error
    if not isinstance(value, dict):
        raise DamagedError(f"{path} is damaged: expected a JSON object", remedy)
    return value
