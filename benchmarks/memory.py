"""Peak memory of every step of a run, for several methods, each step a process of its own.

AlexNet on real digits resized to 32 x 32, or on other images, given as settings:

    python benchmarks/memory.py data.source=cifar100 data.classes_per_task=10
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from steps import save

METHODS = {
    "finetune": ["method.name=finetune"],
    "ness": ["method.name=ness"],
    "ness, bounded": ["method.name=ness", "methods.ness.scaling=bounded"],
    "ness, adam": ["method.name=ness", "train.optimizer=adam"],
    "gpm": ["method.name=gpm"],
    "sgp": ["method.name=sgp"],
}
STEPS = ("train-task", "build-subspace", "evaluate")


def _ness(*arguments: str) -> dict:
    command = [sys.executable, "-m", "ness_cli", *arguments, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", help="of the data, in place of digits")
    parser.add_argument("--method", choices=METHODS, action="append", help="default: all of them")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--out", type=Path, help="where to save the results as JSON")
    arguments = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        preset = Path(folder) / "memory.yaml"
        data = "" if arguments.settings else "data: {num_tasks: 2, size: 32, channels: rgb}\n"
        preset.write_text(f"{data}net: {{name: alexnet}}\ntrain: {{epochs: 1}}\n")
        for name in arguments.method or METHODS:
            overrides = METHODS[name]
            run = str(Path(folder) / name)
            _ness("prepare", "--preset", str(preset), "--out", run, *arguments.settings, *overrides)
            for task in ("1", "2"):
                own = {
                    step: _ness(step, run, "--task", task, "--threads", arguments.threads)["record"]
                    for step in STEPS
                }
            results[name] = {step: r["peak_memory_bytes"] / 2**20 for step, r in own.items()}
    print("Peak resident memory at task 2, MB, and times finetune's")
    for name, own in results.items():
        cells = (
            f"{step} {mb:5.0f} ({mb / results['finetune'][step]:.2f})" for step, mb in own.items()
        )
        print(f"  {name:14} {'  '.join(cells)}")
    save(arguments.out, results)


if __name__ == "__main__":
    main()
