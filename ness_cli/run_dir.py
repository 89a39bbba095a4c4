"""Every path of a run folder, and the lock that lets one process at a time change it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ness_cli.files import guarded, remove_leftovers
from ness_cli.lease import Lease
from ness_cli.process_identity import ProcessIdentity


def task_folder(task_number: int) -> str:
    """Return the name of the folder of a task in a run."""
    return f"task-{task_number:02d}"


def tensor_file(name: str) -> str:
    """Return the name of a safetensors file of a task."""
    return f"{name}.safetensors"


@dataclass(frozen=True)
class TaskDir:
    """The folder of one task inside a run, ``task-01`` and so on."""

    path: Path
    number: int

    def tensors(self, name: str) -> Path:
        """Return the path of a safetensors file: model, update, covariance, basis, memory."""
        return self.path / tensor_file(name)

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

    @property
    def live(self) -> Path:
        """Return what a process writes about the step that it is making, for as long as it does."""
        return self.path / "progress.json"

    def task(self, task_number: int) -> TaskDir:
        """Return the folder of a task, counted from 1."""
        return TaskDir(self.path / task_folder(task_number), task_number)

    def has(self, task_number: int, name: str) -> bool:
        """Return whether a safetensors file of a task is there; of hundreds without delay."""
        return os.path.exists(f"{self.path}/{task_folder(task_number)}/{tensor_file(name)}")

    def relative(self, path: Path) -> str:
        """Return ``path`` as written in records: relative to the run, with forward slashes."""
        return path.relative_to(self.path).as_posix()

    @contextlib.contextmanager
    def lock(self, note: Callable[[str], None] = lambda _text: None) -> Iterator[None]:
        """Hold the run for writing; who loses it meanwhile can write no file into it any more.

        Args:
            note: Called with a line of text when it takes long.

        Raises:
            LockedError: If another process holds it; the message has its pid and host.
        """
        is_new = not self.path.exists()
        lease = Lease(self.path / ".lock", note=note)
        try:
            with lease.held(), guarded(self.path, lease.check):
                remove_leftovers(self.path)
                try:
                    yield
                finally:
                    # Refused: nothing is to be left.
                    if is_new and lease.is_held and not self.run.exists():
                        self.log.unlink(missing_ok=True)
        finally:
            if not self.run.exists():
                lease.forget()
                if is_new:
                    with contextlib.suppress(OSError):  # not empty
                        self.path.rmdir()

    def holder(self) -> ProcessIdentity | None:
        """Return the process that writes into the run now, ``None`` if none does."""
        return Lease(self.path / ".lock").holder()
