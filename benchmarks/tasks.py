r"""Time, memory and bytes of task t as t grows, on permutations of real digits.

Every step is made through the stages, as the commands do, in one process. What is printed is the
median over a few tasks around each t, in time of the processor; evaluation is that of the new task
alone.

    python benchmarks/tasks.py --tasks 100 --out tasks.json
    python benchmarks/tasks.py --tasks 1000 --profile 10 --profile 900 net.hidden=[32,32] \
        data.limit_per_class=2 data.valid_fraction=0.1 train.epochs=1 train.batch_size=8
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import json
import pstats
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from ness_cli.allocator import keep_freed_memory
from ness_cli.engine.score import task_incremental_accuracy
from ness_cli.run_dir import RunDir
from ness_cli.settings.resolve import resolve
from ness_cli.stages.build_subspace import build_subspace
from ness_cli.stages.context import RunContext
from ness_cli.stages.models import load_model
from ness_cli.stages.prepare import prepare
from ness_cli.stages.run_files import RunFiles
from ness_cli.stages.step_record import peak_memory
from ness_cli.stages.train_task import train_task
from ness_cli.workplace import Workplace

WINDOW = 5
MOST = 25  # functions of a profile


def resident() -> int:
    """Return the bytes of this process that are in memory now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@contextlib.contextmanager
def profiled(task_number: int, wanted: list[int]) -> Iterator[None]:
    """Print where the time of a task goes, if that is wanted of it."""
    if task_number not in wanted:
        yield
        return
    with cProfile.Profile() as profile:
        yield
    print(f"task {task_number}", flush=True)
    pstats.Stats(profile).sort_stats("tottime").print_stats(MOST)


def evaluate_new_task(context: RunContext, task_number: int) -> float:
    """Return the seconds it takes to load a task's model and score its own test images."""
    start = time.process_time()
    method = context.method(load_model(context, task_number, RunFiles(context)))
    task_incremental_accuracy(method, context.images(task_number, "test"), 500, lambda _: None)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("settings", nargs="*", help="any, as key=value")
    parser.add_argument("--method", default="ness")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--profile", type=int, action="append", default=[], help="a task")
    parser.add_argument("--out", type=Path, help="where to save the results as JSON")
    arguments = parser.parse_args()
    overrides = [
        f"data.num_tasks={arguments.tasks}",
        "train.epochs=3",
        f"method.name={arguments.method}",
        "storage.keep=latest",
        "net.hidden=[512, 512]",
        "train.batch_size=64",
        *arguments.settings,
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run, cache = RunDir(Path(folder) / "run"), Path(folder) / "cache"
        run.path.mkdir()
        keep_freed_memory()  # as every command does
        workplace = Workplace(cache, "cpu", arguments.threads)
        prepare(run, resolve("digits", overrides), workplace)
        context = RunContext(run, workplace)
        for task_number in range(1, arguments.tasks + 1):
            seconds, written = {}, 0
            with profiled(task_number, arguments.profile):
                for name, step in (("train", train_task), ("build", build_subspace)):
                    start = time.process_time()
                    written += sum(step(context, task_number).record["bytes"].values())
                    seconds[name] = time.process_time() - start
            seconds["evaluate"] = evaluate_new_task(context, task_number)
            row = {"task": task_number, **seconds, "total": sum(seconds.values())}
            peak = peak_memory(context.device)
            rows.append({**row, "peak": peak, "resident": resident(), "bytes": written})
    found = {}
    for task_number in (2, 10, 50, 100, 200, 500, 900, arguments.tasks):
        near = [row for row in rows if abs(row["task"] - task_number) <= WINDOW and row["task"] > 1]
        if task_number <= arguments.tasks:
            found[task_number] = {
                key: statistics.median(row[key] for row in near) for key in rows[0] if key != "task"
            }
    base = found[2]
    print(f"{arguments.method}, permuted digits, per task")
    for task_number, row in found.items():
        parts = ", ".join(
            f"{key} {1e3 * row[key]:.0f} ms" for key in ("train", "build", "evaluate")
        )
        print(
            f"  task {task_number:4}: {parts}; in all {row['total'] / base['total']:.2f} times "
            f"task 2, memory {row['resident'] / 1e6:.0f} MB, peak {row['peak'] / 1e6:.0f} MB, "
            f"files {row['bytes'] / 1e3:.0f} kB"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps({"rows": rows, "summary": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
