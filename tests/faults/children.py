"""Commands that a command starts (a study its runs), forked off it: no start-up to pay for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import BinaryIO

from faults import layer

from ness_cli import files
from ness_cli.cli.app import main
from ness_cli.study import processes

_SECONDS = 300  # one that hangs ends with SIGALRM
_started: list[Forked] = []


class Forked:
    """What is used of ``subprocess.Popen``, for ``python -m ness_cli ...``.

    No fault strikes in it: it is an ordinary ``ness run``, on which faults are tried by themselves.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stderr: BinaryIO,
        env: Mapping[str, str],
        preexec_fn: Callable[[], None],
        **_: object,
    ) -> None:
        assert list(argv[:3]) == [sys.executable, "-m", "ness_cli"]
        self.returncode: int | None = None
        _started.append(self)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setsid()
                preexec_fn()
                code = _run(argv[3:], stderr, env)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)

    def poll(self) -> int | None:
        """Return its exit code, ``None`` while it runs."""
        return self._look(os.WNOHANG)

    def wait(self) -> int | None:
        """Wait until it has ended."""
        return self._look(0)

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs still."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _look(self, how: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, how)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Have all that were started stand still, so that what they write can be looked at."""
    running = [each.pid for each in _started if each.poll() is None]
    for pid in running:
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    try:
        yield
    finally:
        for pid in running:
            os.kill(pid, signal.SIGCONT)


def _run(arguments: Sequence[str], stderr: BinaryIO, env: Mapping[str, str]) -> int:
    """Be what a new process would be, and run the command."""
    layer.stand_back()
    files._guards.clear()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(_SECONDS)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number, handle in ((0, nowhere), (1, nowhere), (2, stderr.fileno())):
        os.dup2(handle, number)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["ness", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0


processes.subprocess = SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL)
