"""``python -m faults.long_chain``: many tasks, every step a process of its own, some are struck.

A step that was struck is typed again. Every tensor file of the last state is compared with that of
one process that nothing disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from forked import Moment, Processes

from ness_cli.hashing import sha256_of_file
from ness_cli.results.number_formats import human_bytes
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_record

SETTINGS = (
    *("--preset", "digits", "data.limit_per_class=2", "data.valid_fraction=0.1"),
    *("net.hidden=[32,32]", "train.epochs=1", "train.batch_size=8", "checkpoint.seconds=0"),
    "storage.progress_picture=false",
)
IMPORTS = ("ness_cli.cli.prepare_targets", "ness_cli.methods.gpm")
STEPS = ("train-task", "build-subspace")
STRUCK = 0.25  # of all processes
MOST_TOUCHES = 40  # about as many as a step has
STOPPED = 75


def main() -> int:
    """Try each method that is asked for; return 1 if any bits differ."""
    parser = argparse.ArgumentParser(prog="python -m faults.long_chain", description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--methods", default="ness,gpm", help="separated by commas")
    parser.add_argument("--every", type=int, default=50, help="tasks between two evaluations")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    failed = False
    for method in asked.methods.split(","):
        with tempfile.TemporaryDirectory() as folder, Processes(*IMPORTS) as processes:
            os.environ["NESS_CACHE"] = str(Path(folder, "cache"))
            chain = Chain(processes, Path(folder), [f"data.num_tasks={asked.tasks}"], method)
            chain.disturbed(asked.tasks, asked.every, random.Random(f"{asked.seed} {method}"))
            chain.undisturbed()
            failed |= chain.compare(asked.tasks)
    return int(failed)


class Chain:
    """A long run, and the same one disturbed.

    Args:
        processes: Starts commands.
        folder: Where both lie.
        settings: What they have beside ``SETTINGS``.
        method: Name of the method.
    """

    def __init__(
        self, processes: Processes, folder: Path, settings: list[str], method: str
    ) -> None:
        self._processes, self._method = processes, method
        self._struck, self._plain = folder / "struck", folder / "plain"
        self._settings = (*SETTINGS, *settings, f"method.name={method}")
        self._ends: Counter[str] = Counter()

    def disturbed(self, tasks: int, every: int, rng: random.Random) -> None:
        """Make every step in processes of its own, until one has come to its end."""
        self._type("prepare", "--out", self._struck, *self._settings)
        started = time.monotonic()
        for task in range(1, tasks + 1):
            for step in STEPS:
                while not self._try(step, rng):
                    pass
            if task % every == 0 or task == tasks:
                self._type("evaluate", self._struck, "--task", task, "--threads", 1)
                seconds = time.monotonic() - started
                print(f"{self._method}: task {task}, {seconds:.0f} s, {dict(self._ends)}")
                sys.stdout.flush()

    def undisturbed(self) -> None:
        """Make all of it in one process."""
        self._type("run", "--out", self._plain, *self._settings, "--threads", 1)

    def compare(self, tasks: int) -> bool:
        """Print what became of it; return whether any bits are others."""
        mine, other = _hashes(self._struck), _hashes(self._plain)
        wrong = sorted(name for name in mine.keys() | other if mine.get(name) != other.get(name))
        last = (_accuracies(run, tasks) for run in (self._struck, self._plain))
        same = len({json.dumps(each) for each in last}) == 1
        print(
            f"{self._method}: {len(other)} tensor files, {len(wrong)} with other bits {wrong[:5]}"
        )
        print(
            f"{self._method}: the accuracies after task {tasks} are {'' if same else 'not '}equal"
        )
        for task in (2, tasks // 2, tasks):
            records = [read_record(RunDir(self._struck), task, s) for s in ("train", "build")]
            written = sum(size for each in records for size in each["bytes"].values())
            peak = max(each["peak_memory_bytes"] for each in records)
            print(f"  task {task}: files {human_bytes(written)}, peak memory {human_bytes(peak)}")
        return bool(wrong) or not same

    def _type(self, *command: object) -> None:
        ended = self._processes.ness(*command, "--quiet")
        assert ended.code == 0, ended.err

    def _try(self, step: str, rng: random.Random) -> bool:
        """Type a step once; return whether it has come to its end."""
        moment, name = None, "undisturbed"
        if rng.random() < STRUCK:
            which = rng.choice((signal.SIGKILL, signal.SIGTERM))
            moment = Moment(str(self._struck), rng.randint(1, MOST_TOUCHES), signal=which)
            name = which.name
        ended = self._processes.ness(step, self._struck, "--threads", 1, "--quiet", moment=moment)
        if ended.code == 0:
            # The signal came too late, or to where nothing was left to stop.
            self._ends["ended by itself"] += 1
            return True
        expected = {"SIGKILL": -signal.SIGKILL, "SIGTERM": STOPPED}.get(name)
        assert ended.code == expected, f"{step} ended with {ended.code}: {ended.err}"
        self._ends[name] += 1
        return False


def _hashes(run: Path) -> dict[str, str]:
    found = run.glob("task-*/*.safetensors")
    return {str(path.relative_to(run)): sha256_of_file(path) for path in found}


def _accuracies(run: Path, task: int) -> object:
    return read_record(RunDir(run), task, "evaluate")["task_incremental"]


if __name__ == "__main__":
    sys.exit(main())
