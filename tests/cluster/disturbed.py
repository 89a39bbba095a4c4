"""A study of nine runs, what is done to them while they run, and what must come out."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

STUDY = """
base: digits
seeds: [1, 2, 3]
settings: [data.num_tasks=2, train.epochs=12, checkpoint.seconds=0.2]
rows:
  ness: []
  gpm: [method.name=gpm]
  ewc: [method.name=ewc]
"""
NAMES = [f"{row}/seed-{seed}" for row in ("ness", "gpm", "ewc") for seed in (1, 2, 3)]
FULL = "ewc/seed-3"
"""The run whose disk is full at first."""
_SECONDS = 3600
_TIMES = ("seconds", "step_ratio", "peak_memory")


def write_study(folder: Path) -> Path:
    path = folder / "study.yaml"
    path.write_text(STUDY)
    return path


def ness(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ness_cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)


def states(out: Path, of: str = "status") -> dict[str, str]:
    """Return how far every run is, or why it failed, by name."""
    document = json.loads(ness("study", "status", out, "--json", "-q").stdout)
    return {f"{each['row']}/seed-{each['seed']}": each[of] for each in document["runs"]}


def wait_until(is_so: Callable[[], object], meanwhile: Callable[[], None] = lambda: None) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        if is_so():
            return
        meanwhile()
        time.sleep(0.5)
    raise AssertionError("it takes too long")


def has_checkpoint(out: Path, name: str) -> bool:
    return any((out / name).glob("task-0*/checkpoint.safetensors"))


def pid_of(out: Path, name: str) -> int | None:
    """Return the number of the process that works on a run, on this machine."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            # Not srun, which has the same words behind its own.
            if words[1:3] == [b"-m", b"ness_cli"] and os.fsencode(out / name) in words:
                return int(folder.name)
    return None


def go_on_once_signalled(pid: int, number: int) -> bool:
    """Let a suspended process go on if a signal waits for it; return whether it goes on or has."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
    masks = [int(mask, 16) for mask in re.findall(r"^(?:Sig|Shd)Pnd:\s*(\w+)$", status, re.M)]
    is_signalled = any(mask >> (number - 1) & 1 for mask in masks)
    if is_signalled:
        os.kill(pid, signal.SIGCONT)
    return is_signalled


def suspend(out: Path, name: str) -> int:
    """Suspend the process that works on a run, and return its number."""
    pid = pid_of(out, name)
    assert pid is not None, f"{name} was faster"
    os.kill(pid, signal.SIGSTOP)
    return pid


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def tensors(out: Path) -> dict[str, str]:
    """Return the hashes of all tensor files of a study, by their paths in it."""
    return {
        path.relative_to(out).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.glob("*/*/task-*/*.safetensors"))
    }


def table(out: Path) -> list[dict[str, str]]:
    """Return the table of a study without its times."""
    assert ness("study", "table", out, "-q").returncode == 0
    with (out / "table.csv").open() as file:
        rows = [
            {key: value for key, value in row.items() if not any(t in key for t in _TIMES)}
            for row in csv.DictReader(file)
        ]
    return [{**row, "name": row["name"].removeprefix(str(out))} for row in rows]


def stops(out: Path, name: str) -> list[str]:
    """Return the signals that a run stopped for, after checking that it never started anew.

    Whoever stopped for a signal has saved, and the next start of the task goes on from there: so
    a task starts once more than it stopped.
    """
    text = (out / name / "log.txt").read_text()
    for task in (1, 2):
        step = re.escape(f"train-task, task {task}: ")
        starts = len(re.findall(f"{step}starts", text))
        ends = re.findall(f"{step}StoppedError: stopped by \\w+; a checkpoint is saved", text)
        assert starts == len(ends) + 1, (name, text)
    return re.findall(r"stopped by (\w+); a checkpoint is saved", text)


def small_disk(place: Path) -> None:
    """Put a disk under a folder that the first file of tensors fills."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)


def larger_disk(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=100m", place], check=True)


def no_disk(place: Path) -> None:
    subprocess.run(["umount", "--lazy", place], check=False)
