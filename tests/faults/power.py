"""What a power loss leaves: a disk of which only that is sure to be there that was flushed.

A file has the content that it had at its last ``fsync``, a folder the names that it had at its own.
Whatever came later may be there or not. At every call four of the disks that are possible are
written down: nothing that was not flushed is there; all names are, but not what is in the files;
all names, and of every file half, the rest zeros; and for every name and file one or the other, by
chance.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faults.contents import LEASE, UNDECIDED

MODES = ("nothing", "names", "halves", "chance")
"""Disks that are possible."""
_TICK = 50_000_000  # nanoseconds


@dataclass
class _Entry:
    """A file or folder as it is known; ``names`` of folders, ``content`` (a hash) of files."""

    names: dict[str, _Entry] = field(default_factory=dict)
    content: str = ""
    is_folder: bool = False


class Disk:
    """Follows what is flushed in some folders, and writes down what a power loss would leave.

    Args:
        folders: What to follow; their own names are taken for safe.
        out: Where to write: ``states.jsonl`` and ``blobs/``.
        brought: Folders below which other processes write: what is in them is taken for flushed.
        paused: Has these processes stand still while it looks.
    """

    def __init__(
        self,
        folders: Sequence[str],
        out: Path,
        brought: Sequence[str] = (),
        paused: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._paused = paused
        self._open = io.open  # before it is replaced
        self._folders, self._out, self._brought = folders, out, tuple(brought)
        (out / "blobs").mkdir(parents=True)
        self._known: dict[int, _Entry] = {}
        self._read: dict[tuple[int, int, int], str] = {}
        self._told = set[str]()
        self._number = itertools.count(1)
        self._look()
        for inode, (path, is_folder) in self._now.items():
            self._flush(self._known[inode], path, is_folder)

    def before(self, kind: str, path: str) -> None:
        """Write down what would be there if the power failed now."""
        with self._paused():
            self._look()
            self._write_down(kind, path)

    def _write_down(self, kind: str, path: str) -> None:
        number = next(self._number)
        rng = random.Random(number)
        for mode in MODES:
            left = _Left(mode, rng)
            for folder in self._folders:
                self._walk(self._known[os.stat(folder).st_ino], folder, left)
            files = {p: d for p, d in left.files.items() if Path(p).name not in UNDECIDED}
            # The end is another thing: nothing may be missing then.
            key = json.dumps([files, left.folders, kind == "end"], sort_keys=True)
            if key not in self._told:
                self._told.add(key)
                state = {"number": number, "mode": mode, "kind": kind, "path": path}
                state |= {"files": left.files, "folders": left.folders}
                with self._open(self._out / "states.jsonl", "a") as file:
                    file.write(json.dumps(state) + "\n")

    def after_fsync(self, handle: int, path: str) -> None:
        """Take what was flushed for safe."""
        with self._paused():
            self._look()
            entry = self._known.get(os.fstat(handle).st_ino)
            if entry is not None:
                self._flush(entry, path, os.path.isdir(path))

    def _flush(self, entry: _Entry, path: str, is_folder: bool) -> None:
        if is_folder:
            entry.names = dict(self._names(path))
        else:
            entry.content = self._content(path)

    def _look(self) -> None:
        """Find out what is there; a number that was gone and is back is another file."""
        found: dict[int, tuple[str, bool]] = {}
        for folder in self._folders:
            found[os.stat(folder).st_ino] = (folder, True)
            for parent, folders, files in os.walk(folder):
                for names, is_folder in ((folders, True), (files, False)):
                    for name in names:
                        path = os.path.join(parent, name)
                        found[os.lstat(path).st_ino] = (path, is_folder)
        self._known = {
            inode: self._known.get(inode, _Entry(is_folder=is_folder))
            for inode, (_, is_folder) in found.items()
        }
        self._now = found
        for inode, (path, is_folder) in found.items():
            if any(path == b or path.startswith(b + os.sep) for b in self._brought):
                self._flush(self._known[inode], path, is_folder)

    def _names(self, path: str) -> Iterator[tuple[str, _Entry]]:
        for item in os.scandir(path):
            yield item.name, self._known[item.inode()]

    def _content(self, path: str) -> str:
        about = os.stat(path)
        key = (about.st_ino, about.st_mtime_ns, about.st_size)
        # The clock of a file system ticks a few times in a hundredth of a second.
        is_settled = time.time_ns() - about.st_mtime_ns > _TICK
        if key not in self._read or not is_settled:
            with self._open(path, "rb") as file:
                self._read[key] = self._kept(file.read())
        return self._read[key]

    def _kept(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        blob = self._out / "blobs" / digest
        if not blob.exists():
            with self._open(blob, "wb") as file:
                file.write(data)
        return digest

    def _walk(self, entry: _Entry, path: str, left: _Left) -> None:
        """Add what is below a folder on a disk that is possible."""
        left.folders.append(path)
        now = {id(self._known[i]): p for i, (p, _) in self._now.items()}
        names = dict(self._names(now[id(entry)])) if id(entry) in now else entry.names
        for name in sorted(entry.names.keys() | names):
            child = (names if left.has_new_name(entry.names, names, name) else entry.names).get(
                name
            )
            below = os.path.join(path, name)
            if child is None:
                continue
            if child.is_folder:
                self._walk(child, below, left)
                continue
            old = child.content or self._kept(b"")
            new = self._content(now[id(child)]) if id(child) in now else old
            left.files[below] = old if old == new else self._one_of(old, new, left)

    def _one_of(self, old: str, new: str, left: _Left) -> str:
        """Return what is in a file whose content was not flushed."""
        if left.mode == "halves":
            data = (self._out / "blobs" / new).read_bytes()
            return self._kept(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
        return new if left.mode == "chance" and left.rng.random() < 0.5 else old


@dataclass
class _Left:
    """A disk that a power loss may leave: hashes of files, and folders."""

    mode: str
    rng: random.Random
    files: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)

    def has_new_name(self, old: dict[str, _Entry], new: dict[str, _Entry], name: str) -> bool:
        """Return whether a name is the one of now, where it was another one when flushed."""
        if old.get(name) is new.get(name):
            return True
        if self.mode == "chance":
            return self.rng.random() < 0.5
        return self.mode in ("names", "halves")


def states(out: Path) -> Iterator[dict]:
    """Yield what was written down: ``number``, ``mode``, ``kind``, ``path``, files, folders."""
    path = out / "states.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        yield json.loads(line)


def put(state: dict, out: Path) -> None:
    """Make a disk that was written down, where nothing is."""
    for folder in state["folders"]:
        Path(folder).mkdir(parents=True, exist_ok=True)
    for path, digest in state["files"].items():
        Path(path).write_bytes((out / "blobs" / digest).read_bytes())
        if LEASE in path:
            _keep_number(Path(path))


def _keep_number(path: Path) -> None:
    """Write into a lease the number of its file here: on a disk it would have kept its own."""
    try:
        entry = json.loads(path.read_bytes())
    except ValueError:
        return  # torn
    path.write_text(json.dumps({**entry, "inode": path.stat().st_ino}))
