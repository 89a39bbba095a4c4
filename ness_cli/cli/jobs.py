"""Several runs at a time, each in a process of its own: what ``--jobs`` does.

The processes are ordinary ``ness run`` commands on prepared runs, so every run ends with the files
it would have had alone, on the same number of threads. They are started as those of a study are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ness_cli.console import Progress
from ness_cli.errors import NessError
from ness_cli.run_dir import RunDir
from ness_cli.settings.engines.local import Options
from ness_cli.study.engines.base import Job
from ness_cli.study.engines.local import Local
from ness_cli.study.processes import Processes
from ness_cli.workplace import Workplace


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
        """Return what brings one run to its end, as typed after ``ness``.

        The device is the same for all; without a number of threads the machine's cores are divided
        among them.
        """
        command = ["run", "--out", str(run.path), "--device", workplace.device]
        command += ["--threads", str(self._threads(workplace))]
        command += ["--force"] if self.force else []
        return command + ([] if self.until is None else ["--until", str(self.until)])

    def bring_to_the_end(self, runs: Sequence[RunDir], workplace: Workplace) -> None:
        """Run them all, ``number`` at a time; one that fails does not keep the others.

        Each has its log beside it, ``seed-1.log``, whose lines are shown too.

        Raises:
            StoppedError: If a stop was requested; every run has a checkpoint then.
            RunFailedError: If one failed, when all others are done.
        """
        threads, options = self._threads(workplace), Options(jobs=self.number)
        slots = Local(runs[0].path.parent, options, threads, workplace).slots()
        failed: list[tuple[Job, int]] = []

        def on_end(job: Job, code: int) -> None:
            if code != 0:
                failed.append((job, code))

        jobs = [self._job(run, workplace) for run in runs]
        lines = _Lines(jobs, workplace.progress)
        processes = Processes(slots, workplace.stop, lines.show, on_end)
        try:
            processes.run(jobs)
        finally:
            lines.show()
            lines.close()
        workplace.stop.check("every run has its checkpoint", "the same command")
        if failed:
            names = ", ".join(f"{job.run} (exit code {code})" for job, code in failed)
            code = failed[0][1] if failed[0][1] > 0 else 1
            raise RunFailedError(f"failed: {names}", "its lines above say why", code)

    def _threads(self, workplace: Workplace) -> int:
        return workplace.threads or max(1, (os.cpu_count() or 1) // self.number)

    def _job(self, run: RunDir, workplace: Workplace) -> Job:
        log, code = (run.path.with_name(f"{run.path.name}.{end}") for end in ("log", "exit"))
        return Job(run.path.name, tuple(self.command(run, workplace)), run.path, log, code)


class _Lines:
    """Shows what is added to logs, each line with the name of its run.

    Args:
        jobs: Whose logs; they are made where there are none.
        progress: Where lines go.
    """

    def __init__(self, jobs: Sequence[Job], progress: Progress) -> None:
        self._progress = progress
        self._files = {job.name: job.open_log() for job in jobs}

    def show(self) -> None:
        """Show the whole lines that are new."""
        for name, file in self._files.items():
            before = file.tell()
            while (line := file.readline()).endswith(b"\n"):
                before = file.tell()
                if not line.startswith(b"Next: "):
                    self._progress.note(f"{name}: {line.decode(errors='replace').rstrip()}")
            file.seek(before)  # the beginning of a line is read again with its end

    def close(self) -> None:
        """Close all logs."""
        for file in self._files.values():
            file.close()
