"""Several runs at a time, each in a process of its own: what ``--jobs`` does.

The processes are ordinary ``ness run`` commands on prepared runs, so every run ends with the files
it would have had alone, on the same number of threads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ness_cli.console import Progress
from ness_cli.errors import NessError
from ness_cli.run_dir import RunDir
from ness_cli.workplace import Workplace

_POLL_SECONDS = 0.1


class RunFailedError(NessError):
    """A process of several has failed; it said itself why.

    Args:
        what: Which run, and its exit code.
        remedy: What to do.
        exit_code: That of the process.
    """

    kind = "run-failed"

    def __init__(self, what: str, remedy: str, exit_code: int) -> None:
        super().__init__(what, remedy)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Jobs:
    """How to run several at a time.

    Attributes:
        number: Processes at a time.
        until: Last task.
        force: Make finished steps anew whose inputs or outputs are not what they were.
    """

    number: int
    until: int | None
    force: bool = False

    def command(self, run: RunDir, workplace: Workplace) -> list[str]:
        """Return the command that brings one run to its end.

        The device is the same for all; without a number of threads the machine's cores are divided
        among them.
        """
        threads = workplace.threads or max(1, (os.cpu_count() or 1) // self.number)
        command = [sys.executable, "-m", "ness_cli", "run", "--out", str(run.path)]
        command += ["--device", workplace.device, "--threads", str(threads)]
        command += ["--force"] if self.force else []
        return command + ([] if self.until is None else ["--until", str(self.until)])

    def bring_to_the_end(self, runs: Sequence[RunDir], workplace: Workplace) -> None:
        """Run them all, ``number`` at a time; one that fails does not keep the others.

        Raises:
            StoppedError: If a stop was requested; every run has a checkpoint then.
            RunFailedError: If one failed, when all others are done.
        """
        stop = workplace.stop
        waiting, failed, is_signalled = list(runs), [], False
        running: dict[RunDir, _Process] = {}
        try:
            while (waiting and not stop.reason) or running:
                while waiting and len(running) < self.number and not stop.reason:
                    run = waiting.pop(0)
                    running[run] = self._start(run, workplace)
                if stop.reason and not is_signalled:
                    _signal(running.values(), signal.SIGTERM)
                    is_signalled = True
                time.sleep(_POLL_SECONDS)
                for run in [run for run, process in running.items() if process.poll() is not None]:
                    code = running.pop(run).finish()
                    if code != 0 and not stop.reason:
                        failed.append((run, code))
        finally:
            _signal(running.values(), signal.SIGKILL)
            for process in running.values():
                process.finish()
        stop.check("every run has its checkpoint", "the same command")
        if failed:
            names = ", ".join(f"{run.path} (exit code {code})" for run, code in failed)
            code = failed[0][1] if failed[0][1] > 0 else 1
            raise RunFailedError(f"failed: {names}", "its lines above say why", code)

    def _start(self, run: RunDir, workplace: Workplace) -> _Process:
        return _Process(self.command(run, workplace), run.path.name, workplace.progress)


class _Process:
    """A process whose lines of chatter are passed on.

    Args:
        command: What to run.
        name: What its lines begin with.
        progress: Where they go.
    """

    def __init__(self, command: Sequence[str], name: str, progress: Progress) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C reaches the parent only, which passes it on as a polite request.
            start_new_session=True,
        )
        self.poll = self._process.poll
        self.send_signal = self._process.send_signal
        self._reader = threading.Thread(target=self._pass_on, args=(name, progress), daemon=True)
        self._reader.start()

    def finish(self) -> int:
        """Wait for the end and the last line; return the exit code."""
        code = self._process.wait()
        self._reader.join()
        return code

    def _pass_on(self, name: str, progress: Progress) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                if not line.startswith("Next: "):
                    progress.note(f"{name}: {line.rstrip()}")


def _signal(processes: Iterable[_Process], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)
