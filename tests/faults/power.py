"""What a power loss leaves: a disk of which only that is sure to be there that was flushed.

A file has the content that it had at its last ``fsync``, a folder the names that it had at its own.
Whatever came later may be there or not. At every call three of the disks that are possible are
written down: nothing that was not flushed is there; all names are, but not what is in the files;
and for every folder and file one or the other, by chance.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_UNDECIDED = ("log.txt", "progress.json")  # nothing depends on them
_LEASE = ".lock-"  # one that does not say whose it is is waited for, for a minute


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
    """

    def __init__(self, folders: tuple[str, ...], out: Path) -> None:
        self._open = io.open  # before it is replaced
        self._folders, self._out = folders, out
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
        self._look()
        number = next(self._number)
        rng = random.Random(number)
        for mode in ("nothing", "names", "chance"):
            files: dict[str, str] = {}
            folders: list[str] = []
            for folder in self._folders:
                root = self._known[os.stat(folder).st_ino]
                self._walk(root, folder, mode, rng, files, folders)
            decided = {p: d for p, d in files.items() if Path(p).name not in _UNDECIDED}
            key = json.dumps([decided, folders], sort_keys=True)
            if key not in self._told:
                self._told.add(key)
                state = {"number": number, "mode": mode, "kind": kind, "path": path}
                with self._open(self._out / "states.jsonl", "a") as file:
                    file.write(json.dumps({**state, "files": files, "folders": folders}) + "\n")

    def after_fsync(self, handle: int, path: str) -> None:
        """Take what was flushed for safe."""
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

    def _names(self, path: str) -> Iterator[tuple[str, _Entry]]:
        for item in os.scandir(path):
            yield item.name, self._known[item.inode()]

    def _content(self, path: str) -> str:
        about = os.stat(path)
        key = (about.st_ino, about.st_mtime_ns, about.st_size)
        if key not in self._read:
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

    def _walk(
        self,
        entry: _Entry,
        path: str,
        mode: str,
        rng: random.Random,
        files: dict[str, str],
        folders: list[str],
    ) -> None:
        """Add what is below a folder on a disk that is possible."""
        folders.append(path)
        now = {id(self._known[i]): p for i, (p, _) in self._now.items()}
        is_there = id(entry) in now
        is_new = is_there and (mode == "names" or (mode == "chance" and rng.random() < 0.5))
        names = dict(self._names(now[id(entry)])) if is_new else entry.names
        for name, child in sorted(names.items()):
            below = os.path.join(path, name)
            if child.is_folder:
                self._walk(child, below, mode, rng, files, folders)
                continue
            if _LEASE in name:
                continue
            content = child.content or self._kept(b"")
            if mode == "chance" and id(child) in now and rng.random() < 0.5:
                content = self._content(now[id(child)])
            files[below] = content


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
