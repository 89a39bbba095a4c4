"""Runs of earlier versions store the open side U of every layer, however wide it is."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from factory import dense_update
from safetensors.torch import load_file
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.methods import ness
from ness_cli.subspace.basis import filtered_basis

SMALL = [
    *("--preset", "digits", "data.num_tasks=3", "train.epochs=2", "net.hidden=[24, 16]"),
    "methods.ness.eps1=0.03",
]


def _ness(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def _tensors(run, task, name):
    return load_file(run / f"task-{task:02d}" / f"{name}.safetensors")


def _keeping_open(*arguments, keep_open, **others):
    return filtered_basis(*arguments, keep_open=True, **others)


@pytest.fixture(scope="module", params=["hard", "bounded"])
def old(request, tmp_path_factory):
    """A run whose first task was built as earlier versions did."""
    out = tmp_path_factory.mktemp("old") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ness, "filtered_basis", _keeping_open)
        _ness("run", "--out", out, *SMALL, "--until", 1, f"methods.ness.scaling={request.param}")
    assert "fc1.U" in _tensors(out, 1, "basis")
    return out


def test_they_go_on_are_recomposed_and_inspected(old, tmp_path):
    out = shutil.copytree(old, tmp_path / "run")
    _ness("run", "--out", out, "storage.keep=latest")
    stored = {key.rpartition(".")[2] for key in _tensors(out, 2, "basis")}
    assert "Q" in stored  # built now
    weight = _tensors(out, 1, "model")["backbone.fc1.weight"]
    for task in (2, 3):
        basis, update = _tensors(out, task - 1, "basis"), _tensors(out, task, "update")
        assert update["fc1.V"].shape == (
            (basis["fc1.U"].shape[1] if "fc1.U" in basis else len(basis["fc1.Q"])),
            len(weight),
        )
        weight = (weight.double() + dense_update(basis, update, "fc1")).float()
    assert torch.equal(weight, _tensors(out, 3, "model")["backbone.fc1.weight"])
    assert not (out / "task-02" / "model.safetensors").exists()
    before = json.loads((out / "task-02" / "accuracy.json").read_text())["task_incremental"]
    _ness("evaluate", out, "--task", 2, "--force")
    after = json.loads((out / "task-02" / "accuracy.json").read_text())["task_incremental"]
    assert after == before
    found = json.loads(_ness("inspect", out, "--check", "--json").stdout)
    assert found["violations"] == []
    assert [row["rank"] for row in found["room"] if row["task"] == 1] == [
        found["spectra"]["1"][layer]["rank"] for layer in ("fc1", "fc2")
    ]


def test_they_train_to_the_weights_that_the_thinner_side_leads_to(old, tmp_path):
    new = tmp_path / "new"
    scaling = "bounded" if "fc1.scale" in _tensors(old, 1, "basis") else "hard"
    _ness("run", "--out", new, *SMALL, "--until", 2, f"methods.ness.scaling={scaling}")
    assert "fc1.Q" in _tensors(new, 1, "basis")
    out = shutil.copytree(old, tmp_path / "run")
    _ness("train-task", out)
    mine, other = (_tensors(run, 2, "model")["backbone.fc1.weight"] for run in (out, new))
    torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)
    assert not torch.equal(mine, _tensors(old, 1, "model")["backbone.fc1.weight"])
