"""How long commands that compute nothing take, each a process of its own.

python benchmarks/startup.py --rounds 7
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from steps import save

SMALL = ["data.num_tasks=3", "data.limit_per_class=20", "train.epochs=1", "net.hidden=[16]"]


def _ness(*arguments: str) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "ness_cli", *arguments]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def _with_seed(run: Path, seed: int) -> str:
    """Return a copy of a run that says it has another seed."""
    copy = run.with_name(f"run-{seed}")
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    record["seed"] = record["identity"]["seed"] = seed
    (copy / "run.json").write_text(json.dumps(record))
    return str(copy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="where to save the results as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "run-0"
        _ness("run", "--preset", "digits", "--out", str(first), *SMALL)
        runs = [str(first), *(_with_seed(first, seed) for seed in range(1, 200))]
        commands = {
            "ness --help": ["--help"],
            "ness --version": ["--version"],
            "ness presets ls": ["presets", "ls"],
            "ness methods": ["methods"],
            "ness status, one run": ["status", runs[0]],
            "ness report, ten runs": ["report", *runs[:10]],
            "ness report, 200 runs": ["report", folder],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.rounds + 1):
            for name, command in commands.items():
                times[name].append(_ness(*command))
    results = {name: statistics.median(own[1:]) for name, own in times.items()}
    for name, seconds in results.items():
        print(f"  {name:24} {1e3 * seconds:6.0f} ms")
    save(arguments.out, results)


if __name__ == "__main__":
    main()
