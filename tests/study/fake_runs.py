"""Run folders that look finished, and studies of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from ness_cli.run_dir import RunDir
from ness_cli.settings.resolve import resolve

STEPS = ("train", "subspace", "accuracy")


def make_run(
    path: Path,
    settings: Sequence[str],
    seed: int,
    *,
    rows: Sequence[Sequence[float]],
    total: int = 0,
    test: Sequence[Sequence[float]] = (),
) -> RunDir:
    """Make a run on digits with rows of accuracies, on test images others if they are given."""
    made = resolve("digits", settings, seed).settings
    run = RunDir(path)
    path.mkdir(parents=True, exist_ok=True)
    record = {
        "fingerprint": "f",
        "identity": made.identity(),
        "preset": "digits",
        "method": made.method.name,
        "seed": seed,
        "num_tasks": total or len(rows),
        "stream_key": "k",
        "notes": [],
        "origins": {},
    }
    run.run.write_text(json.dumps(record))
    for number, row in enumerate(rows, start=1):
        run.task(number).path.mkdir(exist_ok=True)
        for step in STEPS:
            content = {"fingerprint": "f", "outputs": {}, "seconds": 2.0}
            if step == "accuracy":
                own = test[number - 1] if test else row
                content |= {"task_incremental": list(own), "validation": list(row)}
            run.task(number).record(step).write_text(json.dumps(content))
    return run


def write_study(folder: Path, rows: dict[str, list[str]] | None = None, **changes: object) -> Path:
    """Write the file of a study and its folder as if it had been run; return the folder."""
    study = {"base": "digits", "seeds": [1], "rows": rows or {}, **changes}
    text = yaml.safe_dump(study, sort_keys=False)
    (folder / "study.yaml").write_text(text)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    (out / "study.yaml").write_text(text)
    how = {"file": str(folder / "study.yaml"), "engine": "local", "device": "auto"}
    (out / "study.json").write_text(json.dumps(how))
    return out
