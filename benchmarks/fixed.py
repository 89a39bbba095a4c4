"""What a task costs beside its epochs, on networks of full size: seconds, bytes, memory.

Every step is a process of its own, as the commands are. Few images, so that little else shows; real
digits resized to 64 x 64, or other images, given as settings:

    python benchmarks/fixed.py data.source=cifar100 data.classes_per_task=5 data.limit_per_class=18
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from steps import save

NETS = ("resnet18", "vit_b_16")
STEPS = ("train-task", "build-subspace")
DIGITS = ["data.num_tasks=3", "data.channels=rgb", "data.limit_per_class=4"]


def step(name: str, run: str, task: int, threads: str) -> dict[str, float]:
    """Make a step and return its seconds by the clock and of the CPU, and its record."""
    command = [sys.executable, "-m", "ness_cli", name, run, "--task", str(task)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*command, "--threads", threads, "--json"], check=True, capture_output=True, text=True
    )
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    record = json.loads(done.stdout)["record"]
    epochs = record.get("train_seconds", 0.0)
    return {
        "wall": seconds,
        "beyond epochs": seconds - epochs,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak MB": record["peak_memory_bytes"] / 1e6,
        **{f"{Path(name).stem} MB": size / 1e6 for name, size in record["bytes"].items()},
    }


def measure(preset: Path, run: Path, overrides: list[str], threads: str, tasks: int) -> dict:
    """Return medians over the tasks after the first, by step."""
    command = [sys.executable, "-m", "ness_cli", "prepare", "--preset", str(preset)]
    subprocess.run([*command, "--out", str(run), "--quiet", *overrides], check=True)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in STEPS}
    for task in range(1, tasks + 1):
        for name in STEPS:
            rows[name].append(step(name, str(run), task, threads))
    return {
        name: {key: statistics.median(row[key] for row in own[1:]) for key in own[1]}
        for name, own in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", help="of the data and the method; digits without")
    parser.add_argument("--net", choices=NETS, action="append", help="default: both")
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--out", type=Path, help="where to save the results as JSON")
    arguments = parser.parse_args()
    results = {}
    for net in arguments.net or NETS:
        with tempfile.TemporaryDirectory() as folder:
            preset = Path(folder) / "fixed.yaml"
            preset.write_text(
                f"data: {{size: 64}}\nnet: {{name: torchvision, model: {net}}}\n"
                "train: {epochs: 2, batch_size: 16, lr: 0.01}\n"
            )
            results[net] = measure(
                *(preset, Path(folder) / "run", arguments.settings or DIGITS),
                *(arguments.threads, arguments.tasks),
            )
        print(f"{net}, {arguments.threads} threads, medians of the tasks after the first")
        for name, row in results[net].items():
            print(f"  {name:15} " + ", ".join(f"{key} {value:.1f}" for key, value in row.items()))
        save(arguments.out, results)


if __name__ == "__main__":
    main()
