"""Tasks of Ray around the ordinary commands."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ness_cli.errors import SystemRefusedError
from ness_cli.files import write_bytes
from ness_cli.settings.engines.ray import Options
from ness_cli.study.engines.base import IN_USE, INTERRUPTED, Engine, Job, last_code
from ness_cli.study.processes import start
from ness_cli.words import counted

_POLL_SECONDS = 0.5
_AGAIN_SECONDS = 5.0
_CONNECT_SECONDS = 10.0
_ENDPOINT = re.compile(r"(?:ray://)?(?P<host>[^:/]+|\[.+\]):(?P<port>\d+)")
_REMEDY = "ray start --head makes a cluster; name one with engines.ray.address, or RAY_ADDRESS"
# Tasks hand over a few paths, and nobody looks at a dashboard that ends with the study.
_OWN_CLUSTER = {"include_dashboard": False, "object_store_memory": 80 * 2**20}


class Ray(Engine):
    """Runs jobs as tasks of Ray; their folders are on storage that all nodes share.

    A task starts the command as a process and waits for it. Where a worker is lost its process is
    asked to save, Ray starts the task on another one, and the run goes on from its checkpoint.
    """

    options: Options

    def dry_run(self, jobs: Sequence[Job]) -> str:
        """Return the commands, after a line with what a task asks for."""
        options = self.options
        where = "a cluster started here" if self._is_own else self._address
        limit = "" if options.jobs is None else f", at most {options.jobs} at a time"
        asks = ", ".join(f"{key}={value:g}" for key, value in self._resources().items())
        head = f"# {counted(len(jobs), 'task')} on {where}{limit}; each: {asks}"
        return "\n".join([head, *(shlex.join(["ness", *job.command]) for job in jobs), ""])

    def run(self, jobs: Sequence[Job], watch: Callable[[], None]) -> bool:
        """Bring jobs to their end; those under way save when a stop is requested."""
        ray = _library()
        self._stop_file.unlink(missing_ok=True)
        self._connect(ray)
        try:
            self._run(ray, jobs, watch)
        finally:
            ray.shutdown()
            self._stop_file.unlink(missing_ok=True)
        return True

    @property
    def _address(self) -> str | None:
        return self.options.address or os.environ.get("RAY_ADDRESS")

    @property
    def _is_own(self) -> bool:
        return self._address in (None, "local")

    def _connect(self, ray: Any) -> None:
        """Connect to the cluster, or start one here.

        Raises:
            SystemRefusedError: If there is none.
        """
        if self._address is not None:
            _refuse_silent(self._address)
        own = _OWN_CLUSTER if self._is_own else {}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level="warning", **own)
        except (ConnectionError, RuntimeError) as error:
            raise SystemRefusedError(f"ray: {' '.join(str(error).split())}", _REMEDY) from error
        finally:
            # Ray's own ends this process at once, and with it all runs.
            signal.signal(signal.SIGTERM, handler)

    def _run(self, ray: Any, jobs: Sequence[Job], watch: Callable[[], None]) -> None:
        task = ray.remote(**self._resources())(work)
        stop, most = self.workplace.stop, self.options.jobs or len(jobs)
        waiting = [_Waiting(job) for job in jobs]
        running: dict[Any, Job] = {}
        while running or (waiting and not stop.reason):
            if stop.reason and not self._stop_file.exists():
                write_bytes(self._stop_file, b"")
            due = [each for each in waiting if time.monotonic() >= each.not_before]
            for each in due[: max(0, most - len(running))] if not stop.reason else ():
                waiting.remove(each)
                running[task.remote(each.job, os.getcwd(), self._stop_file)] = each.job
            if not running:
                time.sleep(_POLL_SECONDS)
                continue
            ended, _ = ray.wait(list(running), timeout=_POLL_SECONDS)
            for reference in ended:
                job = running.pop(reference)
                code = self._code(ray, reference, job)
                if code in (IN_USE, INTERRUPTED):
                    waiting.append(_Waiting(job, time.monotonic() + _AGAIN_SECONDS))
            watch()

    def _code(self, ray: Any, reference: Any, job: Job) -> int:
        """Return the exit code of a job's command; 1 if Ray could not run it."""
        try:
            return int(ray.get(reference))
        except ray.exceptions.RayError as error:
            with job.open_log() as log:
                log.write(f"error: ray: {' '.join(str(error).split())}\n".encode())
            write_bytes(job.exit_code, b"1\n", durable=False)
            return 1

    def _resources(self) -> dict[str, float]:
        """Return what a task asks of Ray."""
        options = self.options
        return {
            "num_cpus": self.threads if options.num_cpus is None else options.num_cpus,
            "num_gpus": options.num_gpus,
            "max_retries": options.max_retries,
        }

    @property
    def _stop_file(self) -> Path:
        """What tasks look for: the storage that they share needs no other message."""
        return self.folder.absolute() / ".ray.stop"


@dataclass(frozen=True)
class _Waiting:
    job: Job
    not_before: float = 0.0


def work(job: Job, folder: str, stop_file: Path) -> int:
    """Run the command of a job on a node; this is the task.

    Args:
        job: What to run.
        folder: Where its relative paths begin.
        stop_file: Once it exists, the command is asked to stop.

    Returns:
        The exit code, which is in the job's file for it too.
    """
    os.chdir(folder)
    if stop_file.exists():
        return INTERRUPTED
    process, is_asked = start(job, {}), False
    while process.poll() is None:
        if stop_file.exists() and not is_asked:
            process.terminate()
            is_asked = True
        time.sleep(_POLL_SECONDS)
    code = last_code(process.returncode)
    write_bytes(job.exit_code, f"{code}\n".encode(), durable=False)
    return code


def _refuse_silent(address: str) -> None:
    """Refuse a cluster that nothing answers for: Ray itself would try for minutes.

    Raises:
        SystemRefusedError: If nothing does.
    """
    found = _ENDPOINT.fullmatch(address)
    if found is None:  # auto, or in words of Ray's own
        return
    place = found["host"].strip("[]"), int(found["port"])
    try:
        socket.create_connection(place, timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise SystemRefusedError(f"ray: nothing answers at {address}: {error}", _REMEDY) from error


def _library() -> Any:
    """Return Ray.

    Raises:
        SystemRefusedError: If it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise SystemRefusedError("ray is not installed", "pip install 'ness-cli[ray]'") from error
