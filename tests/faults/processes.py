"""``python -m faults.processes``: real processes killed, many at once, full disks, closed pipes.

Every command is a process of its own, forked off this one, which has loaded torch already.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from faults.contents import broken_promises
from faults.damaged import SMALL
from faults.scenes import IMPORTS
from forked import _IMPORTED_LATE

from ness_cli.cli.app import main as ness_main
from ness_cli.hashing import sha256_of_file
from ness_cli.study import processes as study_processes
from ness_cli.study.engines.base import Job

RUN = (*SMALL, "track.to=[]", "storage.progress_picture=false", "checkpoint.seconds=0")
_SUBREAPER = 36  # of prctl: who lost their parent become children of this process
_SECONDS = 600.0  # after which a process is taken to hang
_AFTER_KILL = (0, 7, 75)  # done, in use, to be typed again


@dataclass
class Tally:
    """What became of what was tried, by class.

    Attributes:
        tried: How often.
        good: How often all was well afterwards.
        problems: A line for everything that was not.
    """

    tried: Counter[str] = field(default_factory=Counter)
    good: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, problem: str, *, tried: int = 1) -> None:
        """Count what was tried, and what was wrong after it; empty if nothing was."""
        self.tried[name] += tried
        self.good[name] += 0 if problem else tried
        if problem:
            self.problems.append(f"{name}: {problem}")
            print(self.problems[-1], file=sys.stderr, flush=True)

    def table(self) -> str:
        """Return a line for every class."""
        lines = [f"{'what':<44}{'tried':>8}{'good':>8}"]
        lines += [f"{name:<44}{n:>8}{self.good[name]:>8}" for name, n in self.tried.items()]
        return "\n".join(lines)


class Shell:
    """Starts commands and waits for them.

    Args:
        folder: Where what they say is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._number = folder, 0
        self._said: dict[int, Path] = {}

    def begin(self, *words: object) -> int:
        """Start a command; return the number of its process."""
        self._number += 1
        said = self.folder / f"{self._number}.said"
        pid = _forked([str(word) for word in words], said)
        self._said[pid] = said
        return pid

    def wait(self, pid: int) -> int:
        """Return the exit code of a command, negative for the signal that ended it."""
        return _waited(pid)

    def said(self, pid: int) -> str:
        """Return what a command said."""
        return self._said[pid].read_text(errors="replace")

    def type(self, *words: object) -> tuple[int, str]:
        """Type a command; return its exit code and what it said."""
        pid = self.begin(*words)
        return self.wait(pid), self.said(pid)


def _forked(words: list[str], said: Path, before: Callable[[], None] = lambda: None) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        before()
        for number in (1, 2):
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        sys.argv = ["ness", *words]
        ness_main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _waited(pid: int) -> int:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGALRM


class _Child:
    """A run of a study, as ``subprocess`` would give it."""

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None

    def poll(self) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _start_forked(job: Job, _environment: dict[str, str]) -> _Child:
    """Start a run of a study as ``study.processes.start`` does, without loading torch again."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    ending = study_processes._ending_with(os.getpid())
    pid = _forked(list(job.command), job.log, ending)
    (Path(os.environ["NESS_CACHE"]) / f"{pid}.pid").touch()
    return _Child(pid)


def tensors(*runs: Path) -> dict[str, str]:
    """Return the hash of every tensor file below folders."""
    found = ((run, path) for run in runs for path in run.rglob("task-*/*.safetensors"))
    return {str(path.relative_to(run)): sha256_of_file(path) for run, path in found}


class Trials:
    """Tries real processes on runs, studies and a cache.

    Args:
        folder: Where to make all files.
        rng: Draws moments.
        has_study: Whether studies are tried, too.
    """

    def __init__(self, folder: Path, rng: random.Random, *, has_study: bool = True) -> None:
        self.folder, self.rng, self.tally = folder, rng, Tally()
        (folder / "said").mkdir(parents=True)
        self.shell = Shell(folder / "said")
        self.cache = folder / "cache"
        os.environ["NESS_CACHE"] = str(self.cache)
        self._typed("run", "--out", folder / "first", *RUN)
        started = time.monotonic()
        self._typed("run", "--out", folder / "undisturbed", *RUN)
        self.seconds = time.monotonic() - started
        self.expected = tensors(folder / "undisturbed")
        self.study = folder / "study.yaml"
        rows = "rows: {plain: [], looser: [methods.ness.eps1=0.1]}"
        self.study.write_text(
            f"settings: {list(RUN[2:])!r}\n{rows}\nthreads: 1\n".replace("'", '"')
        )
        if not has_study:
            return
        started = time.monotonic()
        self._typed("study", "run", self.study, "--out", folder / "study", "--jobs", 2)
        self.study_seconds = time.monotonic() - started
        self.study_expected = tensors(folder / "study")

    def _typed(self, *words: object) -> None:
        code, said = self.shell.type(*words)
        assert code == 0, said

    def _fresh(self, name: str) -> Path:
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.folder / name

    # -- kills -------------------------------------------------------------------------------

    def kill_runs(self, most: int) -> None:
        """Kill ``ness run`` at random moments, type it again each time, and compare its bits."""
        kills = 0
        while kills < most:
            run, before = self._fresh("killed"), kills
            while self._killed("run", "--out", run, *RUN, seconds=self.seconds):
                kills += 1
                if problems := list(broken_promises(run.parent)):
                    self.tally.add("kill -9 of a run", "; ".join(problems), tried=0)
            others = "" if tensors(run) == self.expected else "other bits"
            self.tally.add("kill -9 of a run", others, tried=kills - before)

    def kill_studies(self, most: int) -> None:
        """Kill ``ness study run``; its runs must end by themselves, and write nothing more."""
        kills = 0
        while kills < most:
            out, before, problem = self._fresh("killed-study"), kills, ""
            words = ("study", "run", self.study, "--out", out, "--jobs", 2)
            while self._killed(*words, seconds=self.study_seconds):
                kills += 1
                problem = problem or self._orphans(out)
            problem = problem or ("" if tensors(out) == self.study_expected else "other bits")
            self.tally.add("kill -9 of a study", problem, tried=kills - before)

    def _killed(self, *words: object, seconds: float) -> bool:
        """Start a command and kill it at a random moment; return whether that came in time."""
        pid = self.shell.begin(*words)
        end = time.monotonic() + seconds * self.rng.random() ** 2
        while time.monotonic() < end:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                assert os.waitstatus_to_exitcode(status) in _AFTER_KILL, self.shell.said(pid)
                return status != 0
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return True

    def _orphans(self, out: Path) -> str:
        """Wait for runs whose study was killed; return what is wrong with them."""
        for path in self.cache.glob("*.pid"):
            try:
                if _waited(int(path.stem)) == -signal.SIGALRM:
                    return "a run of a killed study went on"
            except ChildProcessError:
                pass  # it had ended before the study did
            path.unlink()
        before = tensors(out)
        time.sleep(0.2)
        return "" if tensors(out) == before else "a killed study is still written to"

    # -- many at once ------------------------------------------------------------------------

    def crowd(self, number: int) -> None:
        """Type one command many times at once: on one run, one study, one cache."""
        run, study = self._fresh("crowded"), self._fresh("crowded-study")
        words = ("run", "--out", run, *RUN)
        self._at_once(f"{number} processes on one run", [words] * number, words)
        self._compare(f"{number} processes on one run", run, self.expected)
        words = ("study", "run", self.study, "--out", study, "--jobs", 1)
        self._at_once(f"{number} processes on one study", [words] * number, words)
        self._compare(f"{number} processes on one study", study, self.study_expected)
        os.environ["NESS_CACHE"] = str(self._fresh("crowded-cache"))
        runs = [self._fresh(f"of-{index}") for index in range(number)]
        commands = [("prepare", "--out", run, *RUN) for run in runs]
        self._at_once(f"{number} processes on one cache", commands, ("run", "--out", runs[0]))
        self._compare(f"{number} processes on one cache", runs[0], self.expected)
        os.environ["NESS_CACHE"] = str(self.cache)

    def _at_once(
        self, name: str, commands: list[tuple[object, ...]], again: tuple[object, ...]
    ) -> None:
        pids = [self.shell.begin(*words) for words in commands]
        codes = [self.shell.wait(pid) for pid in pids]
        allowed = (0,) if "cache" in name else (0, 7)
        for pid, code in zip(pids, codes, strict=True):
            is_good = code in allowed and "Traceback" not in self.shell.said(pid)
            self.tally.add(name, "" if is_good else f"{code}: {self.shell.said(pid)[-300:]}")
        self._typed(*again)

    def _compare(self, name: str, folder: Path, expected: dict[str, str]) -> None:
        self.tally.add(name, "" if tensors(folder) == expected else "other bits", tried=0)

    # -- full disks --------------------------------------------------------------------------

    def full_disks(self, kilobytes: list[int]) -> None:
        """Have a small disk be full for a run, a cache and a study, and grow it then."""
        study = ("study", "run", self.study, "--jobs", 1, "--out")
        for size in kilobytes:
            with small_disk(self._fresh("disk"), size) as (disk, grow):
                self._fill("a run on a full disk", ("run", *RUN, "--out", disk / "run"), grow)
                self._compare("a run on a full disk", disk / "run", self.expected)
            with small_disk(self._fresh("disk"), size) as (disk, grow):
                self._fill("a study on a full disk", (*study, disk / "study"), grow)
                self._compare("a study on a full disk", disk / "study", self.study_expected)
            with small_disk(self._fresh("disk"), size // 4) as (disk, grow):
                os.environ["NESS_CACHE"] = str(disk / "cache")
                run = self._fresh("of-disk")
                self._fill("a cache on a full disk", ("run", *RUN, "--out", run), grow)
                self._compare("a cache on a full disk", run, self.expected)
                os.environ["NESS_CACHE"] = str(self.cache)

    def _fill(self, name: str, words: tuple[object, ...], grow: Callable[[], None]) -> None:
        code, said = self.shell.type(*words)
        is_good = code == 0 or (code == 8 and "fix: " in said) or "study" in name
        is_good = is_good and "Traceback" not in said
        self.tally.add(name, "" if is_good else f"{code}: {said[-500:]}")
        grow()
        code, said = self.shell.type(*words)
        self.tally.add(name, "" if code == 0 else f"grown: {code}: {said[-500:]}", tried=0)

    # -- closed pipes ------------------------------------------------------------------------

    def pipes(self) -> None:
        """Close what a command writes to: its reader, its stdout, its stderr."""
        ness = f"{sys.executable} -m ness_cli"
        whole = self.folder / "undisturbed"
        for index, how in enumerate(
            ("| head -n 0", "| true", "2>&- | true", ">&-", "2>&-", ">&- 2>&-")
        ):
            run = self._fresh(f"piped-{index}")
            begun = f"{ness} run --out {run} {' '.join(RUN)}"
            for words in (f"{ness} report {whole}", f"{ness} status {whole} --json", begun):
                line = f"set -o pipefail; {words} {how}"
                ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
                is_good = ended.returncode == 0 and "Traceback" not in ended.stderr
                said = (
                    "" if is_good else f"{words} {how}: {ended.returncode}: {ended.stderr[-300:]}"
                )
                self.tally.add(f"closed: {how}", said)
            self._compare(f"closed: {how}", run, self.expected)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Mount a small disk; give its folder, and what makes it large."""
    folder.mkdir()
    options = f"size={kilobytes}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield (
            folder,
            lambda: (
                subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True) and None
            ),
        )
    finally:
        subprocess.run(["umount", folder], check=True)


def main() -> int:
    """Try what is asked for; return 1 if something was not well."""
    parser = argparse.ArgumentParser(prog="python -m faults.processes", description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=300, help="of runs; a tenth as many of studies"
    )
    parser.add_argument("--crowds", default="2,20", help="how many at once")
    parser.add_argument("--disks", default="8,40,80,120,160", help="kilobytes; as root only")
    parser.add_argument("--pipes", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    for name in (*_IMPORTED_LATE, *IMPORTS):  # once, and not in every process
        importlib.import_module(name)
    study_processes.start = _start_forked
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder, "all"), random.Random(asked.seed))
        trials.kill_runs(asked.kills)
        trials.kill_studies(asked.kills // 10)
        for number in filter(None, asked.crowds.split(",")):
            trials.crowd(int(number))
        if asked.disks and os.geteuid() == 0:
            trials.full_disks([int(size) for size in asked.disks.split(",")])
        if asked.pipes:
            trials.pipes()
    print(trials.tally.table())
    return 1 if trials.tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
