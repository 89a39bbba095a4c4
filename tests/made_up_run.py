"""Runs that are made up: records on disk, nothing trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

NUM_TASKS = 10


def made_up(
    folder: Path,
    seed: int,
    *,
    method: str = "ness",
    settings: dict[str, object] | None = None,
    more: dict[str, object] | None = None,
    rows: Sequence[Sequence[float]] | None = None,
    order: Sequence[int] = range(NUM_TASKS),
    **options: object,
) -> Path:
    """Write the records of a finished run of ten tasks of two classes, forty test images each.

    Args:
        folder: Where to write them.
        seed: The run's.
        method: The run's.
        settings: More of its identity.
        more: More of the record of every step.
        rows: Accuracies; 100 - 2.5 seed throughout when ``None``.
        order: Which of ten tasks they are, in the order in which they are learned.
        **options: Options of the method.
    """
    folder.mkdir(parents=True)
    settings = {f"methods.{method}.{k}": v for k, v in options.items()} | (settings or {})
    identity = {"seed": seed, "method.name": method, "net.name": "mlp", **settings}
    identity |= {"data.source": "digits", "data.protocol": "split"}
    record = {"fingerprint": "f", "identity": identity, "preset": "mine", "method": method}
    record |= {"seed": seed, "num_tasks": len(order), "stream_key": "k", "notes": []}
    (folder / "run.json").write_text(json.dumps(record))
    split = {"file": "images", "sha256": "0", "count": 40, "bytes": 4000}
    tasks = [
        {
            "number": number,
            "name": f"classes-{2 * t + 1}-{2 * t + 2}",
            "classes": [f"animal-{t}", f"plant-{t}"],
            "mean": [0.5],
            "std": [0.25],
            "splits": dict.fromkeys(("train", "valid", "test"), split),
        }
        for number, t in enumerate(order, start=1)
    ]
    stream = {"key": "k", "image_shape": [1, 8, 8], "shared_labels": False, "tasks": tasks}
    (folder / "stream.json").write_text(json.dumps(stream))
    for t in range(1, len(order) + 1):
        task = folder / f"task-{t:02d}"
        task.mkdir()
        for name in ("train", "subspace", "accuracy"):
            record = {"fingerprint": "f", "seconds": 4000.0, "bytes": {"x": 10**9}}
            record |= {"memory_bytes": 10**9, "peak_memory_bytes": 10**10, **(more or {})}
            record["task_incremental"] = list(rows[t - 1]) if rows else [100.0 - 2.5 * seed] * t
            (task / f"{name}.json").write_text(json.dumps(record))
    return folder


def call_everything(run: Path, name: str) -> None:
    """Give the classes, tasks, preset, notes and versions of a made-up run one name."""
    stream = json.loads((run / "stream.json").read_text())
    for task in stream["tasks"]:
        task["classes"], task["name"] = [name, f"{name}2"], name
    (run / "stream.json").write_text(json.dumps(stream))
    record = json.loads((run / "run.json").read_text())
    record |= {"preset": name, "notes": [name], "versions": {"torch": name}, "created": name}
    record["origins"] = {"data.path": "command line", "net.arguments": f"preset {name}"}
    (run / "run.json").write_text(json.dumps(record))
