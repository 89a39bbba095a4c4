"""Which process this is among all that share a file system, and whether another one still runs."""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_PROC = Path("/proc")
_MOST = 2**31


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from every other one on any machine.

    Attributes:
        host: Name of its machine, for messages.
        machine: The running system that its number belongs to. Where the system tells, this is one
            start of one kernel and a space of process numbers in it: two machines of one name
            differ in it, and so do two containers on one machine.
        pid: Its number there.
        started: When it started, as the system counts; empty where it does not tell.

    Raises:
        TypeError: If a value that was read somewhere cannot be one of these.
    """

    host: str
    machine: str
    pid: int
    started: str

    def __post_init__(self) -> None:
        are_texts = all(isinstance(t, str) for t in (self.host, self.machine, self.started))
        # Numbers below 1 mean other processes, or groups of them, to the system.
        if not are_texts or type(self.pid) is not int or not 0 < self.pid < _MOST:
            raise TypeError("these name no process")

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_gone(self, machine: str) -> bool:
        """Return whether it has ended for certain, as seen from a machine."""
        return self._runs(machine) is False

    def is_running(self, machine: str) -> bool:
        """Return whether it runs for certain, as seen from a machine."""
        return self._runs(machine) is True

    def _runs(self, machine: str) -> bool | None:
        """Return whether it runs, ``None`` where that is not certain, as of another machine."""
        if self.machine != machine or os.name != "posix":
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it is there, and another user's
        # A later process may have got its number; the time of its start tells them apart.
        now = _started(self.pid)
        return now == self.started if self.started and now is not None else None


def this_process() -> ProcessIdentity:
    """Return the identity of the process that asks."""
    pid = os.getpid()
    return ProcessIdentity(socket.gethostname(), _machine(), pid, _started(pid) or "")


@lru_cache
def _machine() -> str:
    with contextlib.suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"
    return f"{socket.gethostname()} {uuid.getnode():x}"


def _started(pid: int) -> str | None:
    """Return when a process started, empty if it has ended, ``None`` where nothing tells."""
    try:
        # The second field, the name, may hold spaces and brackets.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # Ended and not yet noticed by its parent is ended.
    return "" if fields[0] in "ZX" else fields[19]
