"""Everything that can be said of a CUDA device, in under ten minutes and one JSON file.

Each part is a process of its own with a budget of seconds: one that fails, hangs or breaks the
device is recorded, and the others go on.

    make gpu                                   or  make gpu DATA="part0.zip part1.zip part2.zip"
    python benchmarks/gpu.py --device cpu --quick           # the same path on any machine, tiny
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gpu_parts
import torch
from gpu_runs import Setup
from steps import save

# Seconds for each part, most important first; ten minutes in all.
BUDGETS = {
    "tests": 170,
    "bits": 90,
    "processes": 50,
    "steps": 130,
    "build": 40,
    "cifar": 70,
    "seeds": 50,
}
NO_DEVICE = (
    "no CUDA device: run it on a machine that has one, or try it with "
    "python benchmarks/gpu.py --device cpu --quick"
)


def main() -> int:
    arguments = _arguments()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(NO_DEVICE, file=sys.stderr)
        return 8
    data = tuple(str(path.resolve()) for path in arguments.data)
    if arguments.part:
        setup = Setup(arguments.device, arguments.quick, data)
        gpu_parts.run(arguments.part, setup, partial(save, arguments.out))
        return 0
    report: dict[str, Any] = {"machine": machine(arguments.device), "parts": {}}
    # A CPU shows that the path works; how fast says nothing.
    times = 1 if arguments.device == "cuda" else 30
    for name in arguments.only or BUDGETS:
        command = [sys.executable, __file__, "--part", name, "--device", arguments.device]
        command += [*(["--quick"] if arguments.quick else []), *(["--data", *data] if data else [])]
        report["parts"][name] = found = measured(command, BUDGETS[name] * times)
        # After every part: whatever happens later, this much is known.
        save(arguments.out, report)
        why = found.get("error") or found.get("why") or ""
        print(f"{name:10} {found['status']:10} {found['seconds']:6.1f} s  {why}", flush=True)
    print(f"written to {arguments.out}")
    good = all(found["status"] in ("passed", "skipped") for found in report["parts"].values())
    return 0 if good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="everything tiny: to try the path")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="CIFAR-100 in folders")
    parser.add_argument("--only", choices=BUDGETS, nargs="+", help="default: all parts")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.json"))
    parser.add_argument("--part", choices=BUDGETS, help=argparse.SUPPRESS)
    return parser.parse_args()


def machine(device: str) -> dict[str, Any]:
    """Return what the numbers were measured on."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }
    if device == "cuda":
        own = torch.cuda.get_device_properties(0)
        found |= {"device": own.name, "memory_bytes": own.total_memory}
        found |= {"num_devices": torch.cuda.device_count(), "cuda": torch.version.cuda}
        found |= {"capability": f"{own.major}.{own.minor}", "cudnn": torch.backends.cudnn.version()}
    return found


def measured(command: Sequence[str], budget: float) -> dict[str, Any]:
    """Run a part in a process of its own.

    Args:
        command: Starts it; it saves what it finds, as it finds it, where ``--out`` says.
        budget: Seconds that it may take.

    Returns:
        What it found, with ``status`` (passed, skipped, failed or timed out), ``seconds`` and, if
        it did not pass, ``error``.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        environment = os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        with (Path(folder) / "output").open("w+") as output:
            process = subprocess.Popen(
                [*command, "--out", str(out)],
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=environment,
            )
            code = _wait(process, budget)
            output.seek(0)
            said = output.read()
        found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    if code is None:
        found |= {"status": "timed out", "error": f"not done in {budget} s"}
    elif code != 0 or "status" not in found:
        found |= {"status": "failed", "error": _last_line(said)}
    return found | {"seconds": round(time.monotonic() - started, 1)}


def _wait(process: subprocess.Popen[bytes], budget: float) -> int | None:
    """Return the exit code of a part, or ``None`` if its time was over first."""
    try:
        return process.wait(timeout=budget)
    except subprocess.TimeoutExpired:
        # With all that it has started: the session is its own.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


if __name__ == "__main__":
    sys.exit(main())
