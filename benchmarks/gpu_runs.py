"""Runs that the parts of ``make gpu`` make, as commands, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ("--preset", "digits", "data.size=32", "data.channels=rgb", "data.num_tasks=2")
NARROW = {"alexnet": ("net.width=0.05",), "lenet": (), "resnet18": ("net.width=2",)}


@dataclass(frozen=True)
class Setup:
    """Where and how the parts run.

    Attributes:
        device: ``cuda``, or ``cpu`` to try the path.
        quick: Everything tiny.
        data: Files of CIFAR-100 as an image folder; none when empty.
    """

    device: str
    quick: bool
    data: tuple[str, ...]


def small(net: str, setup: Setup) -> tuple[str, ...]:
    """Return the settings of a short run of two tasks."""
    full, tiny = ("train.epochs=3",), ("train.epochs=1", "data.limit_per_class=6", *NARROW[net])
    return (*DIGITS, f"net.name={net}", "train.lr=0.01", *(tiny if setup.quick else full))


def command(
    setup: Setup, *arguments: str, out: Path | None = None, num_processes: int = 1
) -> list[str]:
    """Return the command line of ``ness``; divided among several processes if there are."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    found = [sys.executable, *([*launcher, str(num_processes)] if num_processes > 1 else [])]
    found += ["-m", "ness_cli", *arguments]
    # Preparing is done on no device.
    found += ["--device", setup.device] if arguments[0] != "prepare" else []
    return [*found, *(["--out", str(out)] if out else [])]


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"NESS_CACHE": str(folder / "cache"), "PYTHONPATH": path}


def ness(setup: Setup, folder: Path, *arguments: str, **options: Any) -> None:
    """Run a command of ours to its end.

    Raises:
        RuntimeError: If it fails, with the last lines it said.
    """
    own = command(setup, *arguments, **options)
    done = subprocess.run(own, env=environment(folder), capture_output=True, text=True)
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(f"exit code {done.returncode}: {' / '.join(said[-2:])}")


def tensor_files(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes() for path in run.rglob("task-*/*.safetensors")
    }


def history(task: Path) -> list[dict[str, Any]]:
    path = task / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def task_times(task: Path) -> dict[str, Any]:
    """Return the epochs of a task and its seconds: of training, and of all that follows it."""
    epochs = history(task)
    rest = [task / name for name in ("subspace.json", "accuracy.json")]
    seconds = None
    if all(path.exists() for path in rest):
        seconds = sum(json.loads(path.read_text())["seconds"] for path in rest)
    return {
        "task": task.name,
        "epochs": len(epochs),
        "train_seconds": epochs[-1]["seconds"] if epochs else 0.0,
        "rest_seconds": seconds,
    }


def accuracies(run: Path) -> list[float] | None:
    rows = sorted(run.glob("task-*/accuracy.json"))
    return json.loads(rows[-1].read_text())["task_incremental"] if rows else None
