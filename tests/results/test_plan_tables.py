"""Tables of what a run is to be, from descriptions that are made up."""

from __future__ import annotations

import io
import json

from rich.console import Console

from ness_cli.results.plan_tables import tasks_table

SPLITS = ("train", "valid", "test")


def _manifest() -> dict:
    counts = {"train": 30, "valid": 4, "test": 9}
    splits = {name: {"count": count, "bytes": 10} for name, count in counts.items()}
    task = {"number": 1, "name": "it", "classes": ["a", "b"], "splits": splits}
    return {"image_shape": [1, 2, 2], "tasks": [task]}


def _shown(manifest: dict) -> list[list[str]]:
    out = io.StringIO()
    Console(file=out, width=100).print(tasks_table(manifest, SPLITS, "here"))
    return [line.split() for line in out.getvalue().splitlines()]


def test_counts_stand_under_their_splits_however_the_manifest_is_ordered():
    stored = json.loads(json.dumps(_manifest(), sort_keys=True))
    for manifest in (_manifest(), stored):
        *_, columns, row = _shown(manifest)
        assert columns[-4:] == ["train", "valid", "test", "bytes"]
        assert row[-5:-2] == ["30", "4", "9"]
