"""One study for real: its runs, forks among them, have the bits of runs made alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from ness_cli.cli.app import app

SMALL = ["data.num_tasks=2", "train.epochs=1", "net.hidden=[8]", "data.limit_per_class=8"]
LOOSER = "methods.ness.eps1=0.1"


def ness(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a run; the headers of its files name its settings too."""
    return {
        f"{path.relative_to(run)} {key}": tensor
        for path in sorted(run.rglob("*.safetensors"))
        for key, tensor in load_file(path).items()
    }


@pytest.mark.slow
def test_rows_that_share_a_task_end_with_the_bits_of_runs_made_alone(tmp_path):
    study = {"settings": SMALL, "rows": {"plain": [], "looser": [LOOSER]}, "fork_after": 1}
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    found = json.loads(ness("study", "run", file, "--out", out, "--jobs", 2, "--json"))
    assert found["counts"]["done"] == 2
    log = (out / "looser" / "seed-1.log").read_text()
    assert "task 1/2 trained" not in log  # it was shared
    assert "task 2/2 trained" in log
    alone = tmp_path / "alone"
    ness("run", "--preset", "digits", "--out", alone, "--threads", 1, *SMALL, LOOSER)
    expected, shared = tensors(alone), tensors(out / "looser" / "seed-1")
    assert expected.keys() == shared.keys()
    assert all(torch.equal(tensor, shared[key]) for key, tensor in expected.items())
    other = tensors(out / "plain" / "seed-1")
    assert not all(torch.equal(other[key], shared[key]) for key in other.keys() & shared.keys())
    rows = json.loads(ness("study", "table", out, "--json"))["rows"]
    assert [row["row"] for row in rows] == ["plain", "looser"]
