"""What evaluating measures besides the rows of tasks seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.cli.session import cache_dir
from ness_cli.run_dir import RunDir
from ness_cli.stages.context import RunContext
from ness_cli.stages.run_files import RunFiles
from ness_cli.stages.trained_model import trained_method
from ness_cli.workplace import Workplace

SMALL = ["data.num_tasks=2", "train.epochs=2", "net.hidden=[8]", "data.size=4"]


def _records(run: Path, *overrides: str) -> list[dict[str, object]]:
    typed = ["run", "--preset", "digits", "--out", str(run), *SMALL, *overrides]
    done = CliRunner().invoke(app, typed, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return [json.loads((run / f"task-0{t}" / "accuracy.json").read_text()) for t in (1, 2)]


@pytest.mark.parametrize("normalised", [[], ["net.batch_norm=true"]])
def test_one_head_for_all_is_tried_on_the_next_task_before_it_is_learned(tmp_path, normalised):
    records = _records(tmp_path, "net.heads=shared", *normalised)
    context = RunContext(RunDir(tmp_path), Workplace(cache_dir()))
    images = context.images(2, "test")
    with trained_method(context, 1, RunFiles(context)).task_view(1) as model, torch.no_grad():
        found = model(images.batch(slice(0, len(images))).x).argmax(dim=1)
    right = 100 * (found == images.labels).double().mean().item()
    assert [record["next_task"] for record in records] == [pytest.approx(right), None]


def test_heads_of_their_own_know_no_next_task(tmp_path):
    assert [record["next_task"] for record in _records(tmp_path)] == [None, None]
