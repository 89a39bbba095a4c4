"""Processes on this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence

from ness_cli.settings.engines.local import Options
from ness_cli.study.engines.base import Engine, Job
from ness_cli.study.processes import Processes

_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Local(Engine):
    """Runs jobs as processes on this machine, several at a time.

    On GPUs every job sees one, and ``per_gpu`` jobs share it; elsewhere, and on a GPU that is named
    (``cuda:1``), there are as many at a time as the cores have room for, with the threads of each.
    """

    options: Options

    def at_a_time(self) -> int:
        """Return how many jobs run at a time."""
        return len(self.slots())

    def dry_run(self, jobs: Sequence[Job]) -> str:
        """Return the commands, after a line with how many of them run at a time."""
        slots = self.slots()
        lines = [f"# {len(jobs)} commands, at most {len(slots)} at a time"]
        lines += [f"# the slots: {', '.join(map(_shown, slots))}"] if any(slots) else []
        return "\n".join([*lines, *(shlex.join(["ness", *job.command]) for job in jobs), ""])

    def run(self, jobs: Sequence[Job], watch: Callable[[], None]) -> bool:
        """Bring jobs to their end here."""
        Processes(self.slots(), self.workplace.stop, watch).run(jobs)
        return True

    def slots(self) -> list[Mapping[str, str]]:
        """Return what the environment of each job that may run at a time has besides."""
        gpus = self._gpus() if self.workplace.device in ("auto", "cuda") else []
        room = len(gpus) * self.options.per_gpu or max(1, _num_cores() // self.threads)
        number = self.options.jobs or room
        return [{_VISIBLE: gpus[i % len(gpus)]} if gpus else {} for i in range(number)]

    def _gpus(self) -> list[str]:
        visible = visible_gpus()
        if self.options.gpus is None:
            return visible
        return [str(each) for each in self.options.gpus]


def visible_gpus() -> list[str]:
    """Return the GPUs that processes started here would see, as ``CUDA_VISIBLE_DEVICES`` has them.

    Torch is not asked: importing it takes seconds.
    """
    if _VISIBLE in os.environ:
        return [each.strip() for each in os.environ[_VISIBLE].split(",") if each.strip()]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True)
    return answer.stdout.split() if answer.returncode == 0 else []


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _shown(slot: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in slot.items())
