"""Several commands at a time on this machine, each in a process of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ness_cli.files import write_bytes
from ness_cli.stop_request import StopRequest
from ness_cli.study.engines.base import IN_USE, INTERRUPTED, Job, last_code

_POLL_SECONDS = 0.1
_WATCH_SECONDS = 1.0
_AGAIN_SECONDS = 5.0  # before a run that another process works on is tried again
_PR_SET_PDEATHSIG = 1


@dataclass
class Processes:
    """Runs jobs as processes that do not outlive this one.

    Attributes:
        slots: What the environment of a process has besides, one for each that may run at a time.
        stop: Says whether to stop.
        watch: Called every second or so.
        on_end: Called with every job that ended, and its exit code.
    """

    slots: Sequence[Mapping[str, str]]
    stop: StopRequest
    watch: Callable[[], None] = lambda: None
    on_end: Callable[[Job, int], None] = lambda _job, _code: None
    _running: dict[int, _Running] = field(default_factory=dict, init=False)

    def run(self, jobs: Sequence[Job]) -> None:
        """Run all jobs, as many at a time as there are slots.

        A job whose run is in use by another process waits for that. If a stop is requested, the
        processes are asked to stop, once, and waited for.
        """
        waiting = [_Waiting(job) for job in jobs]
        is_signalled, watched = False, time.monotonic()
        try:
            while self._running or (waiting and not self.stop.reason):
                if self.stop.reason and not is_signalled:
                    _signal(self._running.values(), signal.SIGTERM)
                    is_signalled = True
                if not self.stop.reason:
                    self._fill(waiting)
                time.sleep(_POLL_SECONDS)
                waiting += self._collect()
                if time.monotonic() - watched >= _WATCH_SECONDS:
                    watched = time.monotonic()
                    self.watch()
        finally:
            _signal(self._running.values(), signal.SIGKILL)
            for each in self._running.values():
                each.process.wait()

    def _fill(self, waiting: list[_Waiting]) -> None:
        """Start what is due in every free slot."""
        for slot, environment in enumerate(self.slots):
            if slot in self._running:
                continue
            due = next((each for each in waiting if each.is_due), None)
            if due is None:
                return
            waiting.remove(due)
            self._running[slot] = _Running(due.job, start(due.job, environment))

    def _collect(self) -> list[_Waiting]:
        """Take ended processes out of their slots; return those that must be tried again."""
        again = []
        for slot, each in list(self._running.items()):
            if each.process.poll() is None:
                continue
            code = last_code(each.process.returncode)
            del self._running[slot]
            if code == IN_USE and not self.stop.reason:
                again.append(_Waiting(each.job, time.monotonic() + _AGAIN_SECONDS))
            else:
                seconds = time.monotonic() - each.started
                text = f"{code}\n{seconds:.3f}\n"
                write_bytes(each.job.exit_code, text.encode(), durable=False)
                self.on_end(each.job, code)
        return again


@dataclass(frozen=True)
class _Waiting:
    job: Job
    not_before: float = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self.not_before


@dataclass(frozen=True)
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)


def start(job: Job, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a job whose process is asked to stop when this one ends, however it ends.

    Where the system cannot do that, the lock of the run keeps others off it until it is done.
    """
    with job.open_log() as log:
        return subprocess.Popen(
            job.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **environment},
            # Ctrl-C reaches the parent only, which passes it on as a polite request.
            start_new_session=True,
            preexec_fn=_ending_with(os.getpid()) if sys.platform == "linux" else None,
        )


def _ending_with(parent: int) -> Callable[[], None]:
    """Return what a new process calls to be sent SIGTERM when its parent ends."""
    libc = ctypes.CDLL(None)  # loaded here: after the fork only plain calls are safe

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before it was asked
            os._exit(INTERRUPTED)

    return ask


def _signal(running: Iterable[_Running], number: int) -> None:
    for each in running:
        if each.process.poll() is None:
            each.process.send_signal(number)
