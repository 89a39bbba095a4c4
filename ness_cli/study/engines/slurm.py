"""A job array of Slurm: a plain script for ``sbatch``."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ness_cli.errors import SystemRefusedError
from ness_cli.files import make_folder, write_bytes
from ness_cli.settings.engines.slurm import Options
from ness_cli.study.engines.base import IN_USE, INTERRUPTED, Engine, Job
from ness_cli.study.slurm_record import Queued, SlurmRecord
from ness_cli.words import counted

_POLL_SECONDS = 5.0
# What accounting knows better than the files of a run.
_ENDINGS = ("CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")
_WORDS = {"PENDING": "queued", "CONFIGURING": "queued", "COMPLETING": "running"}

# The rest of a script, which has set command, log, exit_code, stop and threads.
_RUN = f"""
if [ -e "$stop" ]; then exit {INTERRUPTED}; fi
mkdir -p "$(dirname "$log")"
# The signal before the time limit goes to what srun starts. SIGTERM, at the limit or from scancel,
# comes here too, and srun is waited for.
is_ended=
trap 'is_ended=yes' TERM
srun --ntasks=1 --cpus-per-task="$threads" "${{command[@]}}" >/dev/null 2>>"$log"
code=$?
# Ended by SIGUSR1 or SIGTERM before it could catch it.
if [ "$code" -eq 138 ] || [ "$code" -eq 143 ]; then code={INTERRUPTED}; fi
echo "$((code > 128 ? 128 - code : code))" >"$exit_code"  # negative: ended by a signal
# What was interrupted, with a checkpoint ({INTERRUPTED}), or is in use by another process
# ({IN_USE}) goes on later, but not what scancel ended.
job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
if [[ ( $code = {INTERRUPTED} || $code = {IN_USE} ) && ! -e $stop ]] &&
  {{ [ -z "$is_ended" ] || [ "$(squeue -h --job="$job" --format=%r)" = TimeLimit ]; }}; then
  scontrol requeue "$job" 2>>"$log"
fi
exit "$code"
"""


class Slurm(Engine):
    """Queues jobs as an array, or as several where there are more than one may have.

    A run that is interrupted, by its time limit, by another job or by a node that is drained, ends
    with 75 and a checkpoint, and is queued again by its own script.
    """

    options: Options

    def dry_run(self, jobs: Sequence[Job]) -> str:
        """Return the script, which ``sbatch`` takes as it is; one for every array."""
        parts = self._arrays(jobs)
        if len(parts) > 1:
            self.workplace.progress.note(f"{len(parts)} scripts, each from its line #!/bin/bash on")
        return "".join(map(self._script, parts))

    def run(self, jobs: Sequence[Job], watch: Callable[[], None]) -> bool:
        """Queue those that are not in the queue, and wait for all if the options say so."""
        self._record.settle(_queued(), self.workplace.progress)
        self._stop_file.unlink(missing_ok=True)
        queued = self.status(jobs, past=False)
        new = [job for job in jobs if job.name not in queued]
        if queued:
            self.workplace.progress.note(f"in the queue already: {counted(len(queued), 'run')}")
        for part in self._arrays(new):
            if not self.workplace.stop.reason:
                self._submit(part)
        if not self.options.wait:
            return False
        self._wait(jobs, watch)
        return True

    def _wait(self, jobs: Sequence[Job], watch: Callable[[], None]) -> None:
        """Wait until none is in the queue, also of a queue that does not answer for a while.

        Raises:
            SystemRefusedError: If it does not where jobs are to be stopped.
        """
        is_stopping, said = False, ""
        while True:
            try:
                if not self.status(jobs, past=False):
                    return
                said = ""
                if self.workplace.stop.reason and not is_stopping:
                    self.stop(jobs)
                    is_stopping = True
            except SystemRefusedError as error:
                if self.workplace.stop.reason:
                    raise
                if error.what != said:
                    self.workplace.progress.note(f"{error.what}; it is asked again")
                said = error.what
            watch()
            time.sleep(_POLL_SECONDS)

    def stop(self, jobs: Sequence[Job]) -> int:
        """Take jobs that wait out of the queue; those that run save and end."""
        under_way = self.status(jobs, past=False)
        if under_way:
            # The script of a job that ends with 75 looks for it.
            write_bytes(self._stop_file, b"")
            ids = sorted(self._record.arrays(_queued()))
            for how in ("--state=PENDING", "--signal=TERM"):
                # It fails where all have ended meanwhile, which is what is wanted.
                subprocess.run(["scancel", how, *ids], capture_output=True, check=False)
        return len(under_way)

    def status(self, jobs: Sequence[Job], *, past: bool = True) -> Mapping[str, str]:
        """Return what the queue, and accounting where there is some, say of jobs.

        Args:
            jobs: Those that are asked for.
            past: Ask accounting for those that have left the queue.
        """
        if not os.path.lexists(self._record.path):
            return {}
        try:
            queue = _queued()
        except SystemRefusedError as error:
            if not past:
                raise
            self.workplace.progress.note(error.what)  # the folders are shown all the same
            return {}
        submitted = self._record.arrays(queue)
        # What became of a run in an earlier array counts no more.
        names = {
            (array, str(index)): name
            for array in sorted(submitted, key=int)
            for index, name in enumerate(submitted[array])
        }
        latest = {name: place for place, name in names.items()}
        wanted = {latest[job.name]: job.name for job in jobs if job.name in latest}
        ended = _accounted(submitted) if past and submitted else ()
        states = (*ended, *((each.array, each.index, each.state) for each in queue))
        return {
            wanted[array, index]: _WORDS.get(state, state.lower())
            for array, index, state in states
            if (array, index) in wanted
        }

    # -- what was submitted ------------------------------------------------------------------

    @property
    def _record(self) -> SlurmRecord:
        return SlurmRecord(self.folder)

    @property
    def _stop_file(self) -> Path:
        return self.folder.absolute() / ".slurm.stop"

    def _arrays(self, jobs: Sequence[Job]) -> list[Sequence[Job]]:
        size = self.options.array_size
        return [jobs[start : start + size] for start in range(0, len(jobs), size)]

    def _submit(self, jobs: Sequence[Job]) -> None:
        record, names = self._record, [job.name for job in jobs]
        write_bytes(record.script, self._script(jobs).encode())
        for job in jobs:
            make_folder(job.log.parent)
        known = record.arrays()
        record.write(known, names)
        answer = _call("sbatch", "--parsable", str(record.script))
        array = answer.strip().partition(";")[0]
        if not array.isdecimal():
            raise SystemRefusedError(
                f"sbatch answered {answer.strip()!r:.80}, which begins with no number of a job",
                "see squeue; typed again, the same command finds what was queued",
            )
        record.write({**known, array: names})
        self.workplace.progress.note(f"queued: {counted(len(jobs), 'run')} as the array {array}")

    # -- the script --------------------------------------------------------------------------

    def _script(self, jobs: Sequence[Job]) -> str:
        lines = [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in self._options(len(jobs))),
            f"cd {shlex.quote(os.getcwd())} || exit",
            *self.options.before,
            f"stop={shlex.quote(str(self._stop_file))} threads={self.threads}",
            "case $SLURM_ARRAY_TASK_ID in",
            *(_case(number, job) for number, job in enumerate(jobs)),
            "esac",
        ]
        return "\n".join(lines) + _RUN

    def _options(self, num_jobs: int) -> Iterator[str]:
        options = self.options
        limit = "" if options.jobs is None else f"%{options.jobs}"
        yield f"--job-name={shlex.quote('ness-' + self.folder.name)}"
        yield f"--array=0-{num_jobs - 1}{limit}"
        yield "--ntasks=1"
        yield f"--cpus-per-task={self.threads}"
        for name, value in (
            ("partition", options.partition),
            ("account", options.account),
            ("qos", options.qos),
            ("time", options.time),
            ("mem", options.memory),
            ("gres", f"gpu:{options.gpus}" if options.gpus else None),
        ):
            if value is not None:
                yield f"--{name}={value}"
        yield f"--signal=USR1@{options.lead_seconds}"
        yield "--requeue"
        yield "--open-mode=append"
        folder = str(self.folder.absolute()).replace("%", "%%")
        yield f"--output={shlex.quote(folder + '/.slurm.%A_%a.out')}"
        yield from options.options


def _case(number: int, job: Job) -> str:
    log, code = (shlex.quote(str(path.absolute())) for path in (job.log, job.exit_code))
    return f"  {number}) log={log} exit_code={code} command=({shlex.join(job.argv)}) ;;"


def _queued() -> list[Queued]:
    """Return every job of the user that is queued or runs."""
    text = _call("squeue", "--me", "--noheader", "--array", "--format=%F|%K|%T|%o")
    # A command with line breaks, of somebody's other job, has lines of its own.
    lines = (line for line in text.splitlines() if line.count("|") > 1)
    return [Queued(*line.split("|", 3)) for line in lines]


def _accounted(arrays: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Yield array, index and state of jobs that have ended, where the cluster keeps accounts."""
    try:
        text = _call("sacct", "-n", "-X", "-P", "--format=JobID,State", "-j", ",".join(arrays))
    except SystemRefusedError:
        return
    for line in text.splitlines():
        job, _, state = line.partition("|")
        array, _, index = job.partition("_")
        state = state.partition(" ")[0]
        if state in _ENDINGS:
            yield array, index, state


def _call(*command: str) -> str:
    """Return what a command of Slurm says.

    Raises:
        SystemRefusedError: If it is not there, or fails; with its own words.
    """
    try:
        # Commands of the user's other jobs may be in any encoding.
        done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape")
    except FileNotFoundError as error:
        raise SystemRefusedError(
            f"{command[0]} is not on this machine",
            "type this where jobs are submitted from; --dry-run prints the script anywhere",
        ) from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise SystemRefusedError(
            f"{command[0]}: {words}", "put that right (engines.slurm.*) and type the same again"
        )
    return done.stdout
