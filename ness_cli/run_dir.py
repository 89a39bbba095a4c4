"""Every path of a run folder, and the lock that lets one process at a time change it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from ness_cli.errors import LockedError
from ness_cli.files import remove_leftovers, write_json


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

    @property
    def progress(self) -> Path:
        """Return the picture of how far the run has come."""
        return self.path / "progress.png"

    def task(self, task_number: int) -> TaskDir:
        """Return the folder of a task, counted from 1."""
        return TaskDir(self.path / f"task-{task_number:02d}", task_number)

    def relative(self, path: Path) -> str:
        """Return ``path`` as written in records: relative to the run, with forward slashes."""
        return path.relative_to(self.path).as_posix()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing.

        Raises:
            LockedError: If another process holds it; the message has its pid and host.
        """
        is_new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        holder = self.path / ".lock-holder.json"
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            known = _content(holder)
            who = f"process {known['pid']} on {known['host']}" if known else "another process"
            raise LockedError(
                f"{self.path} is in use by {who}", "wait for it to end, or stop it"
            ) from None
        own = {"host": socket.gethostname(), "pid": os.getpid()}
        try:
            remove_leftovers(self.path)
            write_json(holder, own)
            yield
        finally:
            # Of another process if the folder was deleted under this one, and made again.
            if _content(holder) in (own, {}):
                holder.unlink(missing_ok=True)
                if not self.run.exists():
                    self._remove_leavings(is_new=is_new)
            lock.release()
            if is_new and self.path.is_dir() and not any(self.path.iterdir()):
                self.path.rmdir()

    def _remove_leavings(self, *, is_new: bool) -> None:
        """Remove what a preparation that was refused leaves, while the folder is locked."""
        with contextlib.suppress(OSError):  # Windows removes no file that is open
            (self.path / ".lock").unlink()
        if is_new:
            self.log.unlink(missing_ok=True)


def _content(holder: Path) -> dict[str, Any]:
    """Return who holds a run, empty where that is not known."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(holder.read_text())
        return {key: found[key] for key in ("host", "pid")}
    return {}
