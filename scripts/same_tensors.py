"""Hold a change of structure against the bits that it must not change.

    python scripts/same_tensors.py make BEFORE      # before the change
    python scripts/same_tensors.py make AFTER       # after it
    python scripts/same_tensors.py compare BEFORE AFTER

``make`` runs the demo's two runs, three tasks of an AlexNet and a run with ``storage.keep=latest``,
on one thread. ``compare`` says which safetensors files differ, in a tensor, a name, a type or the
header; of the header only the run's fingerprint may differ. Exit code 1 if anything does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

ALEXNET = (
    *("net.name=alexnet", "net.width=0.125", "data.size=32", "data.num_tasks=3"),
    *("data.limit_per_class=20", "train.epochs=2", "train.lr=0.01", "norm.affine=per-task"),
)
RUNS = {
    "ness": (),
    "finetune": ("method.name=finetune",),
    "alexnet": (*ALEXNET, "methods.ness.scaling=bounded"),
    "alexnet-hard": (*ALEXNET, "methods.ness.eps1=0.01"),
    "alexnet-sgp": (*ALEXNET, "method.name=sgp"),
    "latest": ("storage.keep=latest", "data.num_tasks=4", "train.epochs=3"),
    "adam": ("train.optimizer=adam", "train.lr=1e-3", "data.num_tasks=3", "train.epochs=3"),
    "sam": ("train.sam.tasks=all", "train.weight_decay=1e-4", "data.num_tasks=3", "train.epochs=3"),
    "joint": ("method.name=joint", "data.num_tasks=3", "train.epochs=3", "train.weights=best"),
}


def make(folder: Path) -> None:
    """Make all runs below a folder."""
    for name, overrides in RUNS.items():
        command = [sys.executable, "-m", "ness_cli", "run", "--preset", "digits", "--threads", "1"]
        command += ["--quiet", "--out", str(folder / name), *overrides]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"{folder / name} is made", flush=True)


def content(path: Path) -> tuple[dict[str, object], dict[str, str]]:
    """Return the identity in a file's header, less the run's fingerprint, and a hash per tensor."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    identity = json.loads(header.pop("__metadata__", {}).get("ness", "{}"))
    identity.pop("run", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        digest = hashlib.sha256(data[start:end]).hexdigest()
        tensors[name] = f"{entry['dtype']} {entry['shape']} {digest}"
    return identity, tensors


def differences(before: Path, after: Path) -> list[str]:
    """Return one line for every file or tensor in which two folders of runs differ."""
    names = sorted({p.relative_to(f) for f in (before, after) for p in f.rglob("*.safetensors")})
    found = [] if names else [f"no safetensors below {before} and {after}"]
    for name in names:
        if not (before / name).exists() or not (after / name).exists():
            found.append(f"{name}: only in {before if (before / name).exists() else after}")
            continue
        (mine, old), (other, new) = content(before / name), content(after / name)
        if mine != other:
            found.append(f"{name}: header {mine} became {other}")
        found += [
            f"{name}: tensor {key} differs"
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        ]
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("folder", type=Path)
    compare = commands.add_parser("compare")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.folder)
        return 0
    found = differences(arguments.before, arguments.after)
    print("\n".join(found) or "equal")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
