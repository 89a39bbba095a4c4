"""What the cache holds of prepared images, and which of it runs need."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ness_cli import record_shapes
from ness_cli.data.task_stream import FOLDER_LENGTH
from ness_cli.errors import DamagedError, InputError, LockedError, SystemRefusedError
from ness_cli.extensions import read_extensions
from ness_cli.files import read_json
from ness_cli.lease import Lease
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_run_record


@dataclass(frozen=True)
class PreparedStream:
    """The images of a stream in the cache.

    Attributes:
        folder: Where they lie.
        source: Name of the data source; empty if the entry is not complete.
        num_tasks: Number of tasks.
        num_images: Number of images of all splits.
        bytes: Size on the disk.
        refused: What the system said if it did not let the description be read, which may pass.
    """

    folder: Path
    source: str
    num_tasks: int
    num_images: int
    bytes: int
    refused: SystemRefusedError | None = None

    @property
    def is_complete(self) -> bool:
        """Whether its description is there and reads back."""
        return bool(self.source)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "folder": str(self.folder),
            "source": self.source or None,
            "tasks": self.num_tasks,
            "images": self.num_images,
            "bytes": self.bytes,
            "refused": self.refused and self.refused.what,
        }


def raise_refusal(streams: Iterable[PreparedStream]) -> None:
    """Raise what the system said of the first description that it did not let be read, if any.

    Raises:
        SystemRefusedError: If there is one.
    """
    for stream in streams:
        if stream.refused is not None:
            raise stream.refused


def prepared_streams(cache: Path) -> list[PreparedStream]:
    """Return what the cache holds, the largest first; nothing where there is no cache."""
    folders = [path for path in cache.iterdir() if _is_entry(path)] if cache.is_dir() else []
    return sorted(map(_described, folders), key=lambda each: (-each.bytes, each.folder.name))


def _is_entry(path: Path) -> bool:
    """Return whether a folder of the cache is named as prepared streams are."""
    is_key = len(path.name) == FOLDER_LENGTH and set(path.name) <= set("0123456789abcdef")
    return is_key and path.is_dir()


def _described(folder: Path) -> PreparedStream:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    path = folder / "stream.json"
    if not path.exists():
        return PreparedStream(folder, "", 0, 0, size)
    try:
        manifest = read_json(path, remedy="", shape=record_shapes.STREAM)
    except SystemRefusedError as error:
        return PreparedStream(folder, "", 0, 0, size, error)
    except (DamagedError, InputError):
        return PreparedStream(folder, "", 0, 0, size)  # prepared anew when a run asks for it
    splits = [each for task in manifest["tasks"] for each in task["splits"].values()]
    counts = sum(each["count"] for each in splits)
    source = str(manifest.get("source", ""))
    return PreparedStream(folder, source, len(manifest["tasks"]), counts, size)


def needed_folders(runs: Iterable[Path]) -> set[str]:
    """Return the names of the cache's folders that runs read images from.

    Raises:
        InputError: If a folder is no run.
        DamagedError: If a run does not say; nothing may be removed then.
    """
    needed = set()
    for path in runs:
        record = read_run_record(RunDir(path))
        keys = [record["stream_key"], *(e.stream["key"] for e in read_extensions(record))]
        needed |= {key[:FOLDER_LENGTH] for key in keys}
    return needed


def remove(stream: PreparedStream) -> bool:
    """Remove the images of a stream; return whether it was, or is being prepared right now."""
    try:
        with Lease(stream.folder.with_name(f"{stream.folder.name}.lock")).held():
            # First of all: what is removed halfway must not look complete.
            (stream.folder / "stream.json").unlink(missing_ok=True)
            shutil.rmtree(stream.folder)
    except LockedError:
        return False
    return True
