"""A file system that fails: calls of a process on some folders are counted, and one goes wrong.

It stands between Python and the system: ``open``, ``os.replace``, ``os.fsync`` and their like are
replaced in a process that was forked for one command. Files written by C++ directly (torch.save)
are seen when they are flushed and renamed.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CHANGES = ("create", "write", "fsync", "rename", "link", "unlink", "mkdir", "rmdir", "chmod")
"""Kinds of calls that change a disk; ``read`` is the other one, ``compute`` no call to a disk."""
_FORWARD = 10 * 365 * 86400.0


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Attributes:
        folders: Only calls on files below these count.
        number: The call that goes wrong, from 1; 0 for none.
        what: How, a key of ``FAULTS``; ``trace`` for nothing.
        trace: File that the kind and the path of every call are written into at the end.
        mark: File that the kind and the path of the call that went wrong are written into, then.
        crash: Folder that what a power loss would leave, at every call, is written into.
        brought: Folders that other processes write into meanwhile, for ``crash``.
        writer: How this process writes files, a key of ``faults.broken.WRITERS``; empty for as it
            does.
    """

    folders: Sequence[str]
    number: int = 0
    what: str = "trace"
    trace: str = ""
    mark: str = ""
    crash: str = ""
    brought: Sequence[str] = ()
    writer: str = ""


class Layer:
    """Counts calls and has one of them fail; ``install`` puts it in place."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.count = 0
        self.calls: list[tuple[str, str]] = []
        self.refusal: Callable[[str, str], None] | None = None
        self.shift = 0.0
        self.on_change: Callable[[str, str], None] = lambda kind, path: None
        self.on_fsync: Callable[[int, str], None] = lambda handle, path: None

    def concerns(self, path: str) -> bool:
        """Return whether a file counts."""
        return any(path == f or path.startswith(f + os.sep) for f in self.fault.folders)

    def before(self, kind: str, path: str) -> str:
        """Count a call that is about to be made; raise, or end the process, if it is to fail.

        Returns:
            ``half`` if a write is to put down only half of its bytes, ``torn`` if the process is to
            end then, ``full`` if the disk is full then, else nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            return ""  # how often a lease is touched depends on the machine
        self.count += 1
        self.calls.append((kind, path))
        self.on_change(kind, path)
        if self.refusal is not None:
            self.refusal(kind, path)
        own = FAULTS[self.fault.what]
        if self.count != self.fault.number or kind not in own.calls:
            return ""
        if self.fault.mark:
            Path(self.fault.mark).write_text(json.dumps([kind, path]))
        return own.strike(self, kind, path) or ""

    def finish(self) -> None:
        """Write down the calls, and what is there now that the command has ended."""
        self.on_change("end", "")
        if self.fault.trace:
            Path(self.fault.trace).write_text(json.dumps(self.calls))


# -- what goes wrong -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A way to go wrong.

    Attributes:
        strike: Called with the layer, the kind of the call and its path, just before the call.
        calls: Kinds of calls that it can meet.
        codes: Exit codes that a command may have after it.
    """

    strike: Callable[[Layer, str, str], str | None]
    calls: tuple[str, ...]
    codes: tuple[int, ...]


def _signal(number: int) -> Callable[[Layer, str, str], str | None]:
    def strike(_layer: Layer, _kind: str, _path: str) -> None:
        os.kill(os.getpid(), number)

    return strike


def _twice(_layer: Layer, _kind: str, _path: str) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)


def _once(number: int) -> Callable[[Layer, str, str], str | None]:
    def strike(_layer: Layer, _kind: str, path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    return strike


def _from_now_on(number: int, calls: tuple[str, ...]) -> Callable[[Layer, str, str], str | None]:
    def strike(layer: Layer, kind: str, path: str) -> str | None:
        def refuse(kind: str, path: str) -> None:
            if kind in calls:
                raise OSError(number, os.strerror(number), path)

        layer.refusal = refuse
        if kind == "write":
            return "full"
        refuse(kind, path)
        return None

    return strike


def _memory(_layer: Layer, kind: str, _path: str) -> None:
    if kind == "compute":
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    raise MemoryError


def _clock(layer: Layer, _kind: str, _path: str) -> None:
    layer.shift = _FORWARD if layer.count % 2 else -_FORWARD


_NAMES = ("create", "rename", "link", "unlink", "mkdir", "rmdir")
_SPACE = ("create", "write", "fsync", "rename", "link", "mkdir")
_ANY = (*CHANGES, "read", "compute")
FAULTS = {
    "trace": Kind(lambda *_: None, (), (0,)),
    "kill -9": Kind(_signal(signal.SIGKILL), CHANGES, (-signal.SIGKILL,)),
    "killed in a write": Kind(lambda *_: "torn", ("write",), (-signal.SIGKILL,)),
    "SIGHUP": Kind(_signal(signal.SIGHUP), _ANY, (75, 0)),
    "SIGTERM": Kind(_signal(signal.SIGTERM), _ANY, (75, 0)),
    "SIGUSR1": Kind(_signal(signal.SIGUSR1), _ANY, (75, 0)),
    "Ctrl-C": Kind(_signal(signal.SIGINT), _ANY, (75, 0)),
    "Ctrl-C twice": Kind(_twice, _ANY, (130, 0)),
    "disk full": Kind(_from_now_on(errno.ENOSPC, _SPACE), _SPACE, (8, 0)),
    "permission denied": Kind(_from_now_on(errno.EACCES, _NAMES), _NAMES, (8, 0)),
    "read-only": Kind(_from_now_on(errno.EROFS, (*_NAMES, "chmod")), (*_NAMES, "chmod"), (8, 0)),
    "I/O error": Kind(_once(errno.EIO), (*CHANGES, "read"), (8, 0)),
    "too many open files": Kind(_once(errno.EMFILE), ("create", "read"), (8, 0)),
    "may not be read": Kind(_once(errno.EACCES), ("read",), (8, 0)),
    "short write": Kind(lambda *_: "half", ("write",), (0,)),
    "out of memory": Kind(_memory, ("write", "read", "compute"), (8, 0)),
    "clock jump": Kind(_clock, ("write", "rename", "read"), (0,)),
}
"""Every way to go wrong, by name; code 0 where the command could do without, or was through."""


# -- between Python and the system ---------------------------------------------------------------

_installed: list[Layer] = []


def stand_back() -> None:
    """Let all calls of this process pass from now on."""
    for each in _installed:
        each.fault, each.refusal, each.shift = Fault(()), None, 0.0
        each.on_change = each.on_fsync = lambda *_: None


def install(**fault: object) -> Callable[[], None]:
    """Put a layer in place for the rest of this process; return what is called at its end.

    Args:
        fault: The attributes of a ``Fault``.
    """
    layer = Layer(Fault(**fault))
    _installed.append(layer)
    fault = layer.fault
    if fault.writer:
        from faults.broken import use

        use(fault.writer)
    if fault.crash:
        from faults.children import paused
        from faults.power import Disk

        disk = Disk(fault.folders, Path(fault.crash), fault.brought, paused)
        layer.on_change, layer.on_fsync = disk.before, disk.after_fsync
    _wrap_names(layer)
    _wrap_handles(layer)
    _wrap_open(layer)
    _wrap_clock(layer)
    _wrap_computing(layer)
    shutil._USE_CP_SENDFILE = False
    return layer.finish


def _path_of(path: object, dir_fd: int | None) -> str:
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    name = os.fsdecode(path)
    parent = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
    return os.path.normpath(os.path.join(parent, name))


def _wrap_names(layer: Layer) -> None:
    """Wrap what changes names; of two paths the second one counts."""
    kinds = {
        "mkdir": "mkdir",
        "rmdir": "rmdir",
        "unlink": "unlink",
        "remove": "unlink",
        "rename": "rename",
        "replace": "rename",
        "link": "link",
        "chmod": "chmod",
        "truncate": "unlink",  # it needs no space
        "utime": "chmod",
    }
    for name, kind in kinds.items():
        original = getattr(os, name)

        def wrapped(*args, _original=original, _kind=kind, **kwargs):
            at = 1 if _kind in ("rename", "link") else 0
            path = _path_of(args[at], kwargs.get("dir_fd"))
            if layer.concerns(path):
                layer.before(_kind, path)
            return _original(*args, **kwargs)

        setattr(os, name, wrapped)
        for known in (os.supports_dir_fd, os.supports_follow_symlinks, os.supports_fd):
            if original in known:
                known.add(wrapped)


def _wrap_handles(layer: Layer) -> None:
    """Wrap ``os.fsync`` and ``os.open``."""
    fsync, open_ = os.fsync, os.open

    def wrapped_fsync(handle):
        path = _path_of(handle, None)
        if layer.concerns(path):
            layer.before("fsync", path)
        fsync(handle)
        if layer.concerns(path):
            layer.on_fsync(handle, path)

    def wrapped_open(path, flags, mode=0o777, *, dir_fd=None):
        where = _path_of(path, dir_fd)
        if layer.concerns(where) and not os.path.isdir(where):
            is_write = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            layer.before("create" if is_write else "read", where)
        return open_(path, flags, mode, dir_fd=dir_fd)

    os.fsync, os.open = wrapped_fsync, wrapped_open
    os.supports_dir_fd.add(wrapped_open)


def _wrap_open(layer: Layer) -> None:
    """Wrap ``open``: files that are written to get a raw file of ours below their buffer."""
    original = io.open

    class Raw(io.FileIO):
        """A file whose writes may fail."""

        def write(self, data):
            size = memoryview(data).nbytes
            how = layer.before("write", self.name if isinstance(self.name, str) else self.path)
            if not how:
                return super().write(data)
            written = super().write(memoryview(data).cast("B")[: (size + 1) // 2])
            if how == "torn":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
            return written

    def wrapped(file, mode="r", buffering=-1, encoding=None, *args, **kwargs):
        where = _path_of(file, None)
        if not layer.concerns(where):
            return original(file, mode, buffering, encoding, *args, **kwargs)
        is_write = bool(set(mode) & set("wax+"))
        if not isinstance(file, int):
            layer.before("create" if is_write else "read", where)
        if not is_write or "+" in mode:
            return original(file, mode, buffering, encoding, *args, **kwargs)
        raw = Raw(file, mode.replace("b", "").replace("t", ""), kwargs.get("closefd", True))
        raw.path = where
        buffered = io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, io.text_encoding(encoding), *args)

    io.open = builtins.open = wrapped


def _wrap_clock(layer: Layer) -> None:
    real = time.time
    time.time = lambda: real() + layer.shift


def _wrap_computing(layer: Layer) -> None:
    """Count forward passes of linear layers and eigendecompositions: memory may run out there."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    for owner, name in ((torch.nn.Linear, "forward"), (torch.linalg, "eigh")):
        original = getattr(owner, name)

        def wrapped(*args, _original=original, **kwargs):
            layer.before("compute", "")
            return _original(*args, **kwargs)

        setattr(owner, name, wrapped)
