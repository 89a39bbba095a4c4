"""Time and memory of task t as t grows, on permutations of real digits.

Every step is made through the stages, as the commands do, in one process. What is printed is the
median over a few tasks around each t; evaluation is that of the new task alone.

    python benchmarks/tasks.py --tasks 100 --out tasks.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
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


def evaluate_new_task(context: RunContext, task_number: int) -> float:
    """Return the seconds it takes to load a task's model and score its own test images."""
    start = time.perf_counter()
    method = context.method(load_model(context, task_number, RunFiles(context)))
    task_incremental_accuracy(method, context.images(task_number, "test"), 500, lambda _: None)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--method", default="ness")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="where to save the results as JSON")
    arguments = parser.parse_args()
    overrides = [
        f"data.num_tasks={arguments.tasks}",
        f"train.epochs={arguments.epochs}",
        f"method.name={arguments.method}",
        "storage.keep=latest",
        "net.hidden=[512, 512]",
        "train.batch_size=64",
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
            seconds = {}
            for name, step in (("train", train_task), ("build", build_subspace)):
                start = time.perf_counter()
                step(context, task_number)
                seconds[name] = time.perf_counter() - start
            seconds["evaluate"] = evaluate_new_task(context, task_number)
            peak = peak_memory(context.device)
            rows.append(
                {"task": task_number, **seconds, "total": sum(seconds.values()), "peak": peak}
            )
    found = {}
    for task_number in (2, 10, 50, 100, arguments.tasks):
        near = [row for row in rows if abs(row["task"] - task_number) <= WINDOW and row["task"] > 1]
        if task_number <= arguments.tasks:
            found[task_number] = {
                key: statistics.median(row[key] for row in near) for key in rows[0] if key != "task"
            }
    base = found[2]
    print(f"{arguments.method}, permuted digits, {arguments.epochs} epochs, per task")
    for task_number, row in found.items():
        parts = ", ".join(
            f"{key} {1e3 * row[key]:.0f} ms" for key in ("train", "build", "evaluate")
        )
        print(
            f"  task {task_number:3}: {parts}; in all {row['total'] / base['total']:.2f} times "
            f"task 2, peak memory {row['peak'] / base['peak']:.2f} times"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps({"rows": rows, "summary": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
