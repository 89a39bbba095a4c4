"""``ness export``: what is written of a run, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.export.formats.torch import Torch

SMALL = [
    *("--preset", "digits", "data.num_tasks=2", "train.epochs=1", "net.hidden=[16, 12]"),
    *("net.batch_norm=true", "data.limit_per_class=20"),
]


def _ness(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "run"
    result = _ness("run", "--out", out, *SMALL)
    assert result.exit_code == 0, result.stderr
    return out


def test_a_folder_has_weights_a_card_and_nothing_else_beside_it(run, tmp_path):
    result = _ness("export", run, tmp_path / "a", "--to", "torch", "--task", 1, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["task"] == 1
    assert found["after"] == 2
    assert found["num_images"] == 32
    assert found["largest_difference"] < 1e-5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == sorted(found["files"])
    assert names == ["README.md", "config.json", "model.safetensors", "network.py"]


def test_the_card_says_what_hubs_and_people_read(run, tmp_path):
    assert _ness("export", run, tmp_path / "a", "--to", "torch", "--task", 1).exit_code == 0
    text = (tmp_path / "a" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    meta = yaml.safe_load(front)
    row = json.loads((run / "task-02" / "accuracy.json").read_text())["task_incremental"]
    (result,) = meta["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(row[0] / 100, abs=1e-4)
    assert f"| 1 | {row[0]:.2f} |" in body
    assert "| 1 | 9 | 9 |" in body  # its classes
    assert "permuted" in body
    assert "train.epochs: 1\n" in body
    assert "MIT" in body
    assert str(tmp_path) not in text


def test_the_card_says_what_differs_for_appended_tasks(run, tmp_path):
    longer = tmp_path / "longer"
    shutil.copytree(run, longer)
    for command in (
        ("extend", longer, "data.num_tasks=1", "train.epochs=2"),
        ("run", "--out", longer),
        ("export", longer, tmp_path / "a", "--to", "torch"),
    ):
        result = _ness(*command)
        assert result.exit_code == 0, result.stderr
    text = (tmp_path / "a" / "README.md").read_text()
    assert "train.epochs: 1\n" in text
    own = text.partition("# task 3, added later:\n")[2].partition("```")[0].splitlines()
    assert "# train.epochs: 2" in own
    assert not [line for line in own if "net." in line or "path" in line]


@pytest.mark.parametrize("form", ["pt2", "merged"])
def test_programs_are_written_from_a_run(run, form, tmp_path):
    result = _ness("export", run, tmp_path / "a", "--to", form, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["task"] == (None if form == "merged" else 2)
    assert sorted(found["classes"]) == (["1", "2"] if form == "merged" else ["2"])
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["README.md", "model.pt2"]


@pytest.mark.parametrize("options", [["torch", "--one-rank"], ["merged", "--task", "1"]])
def test_options_that_a_format_does_not_have_are_refused(run, options, tmp_path):
    result = _ness("export", run, tmp_path / "a", "--to", *options)
    assert result.exit_code == 2
    assert options[1] in result.stderr


def test_what_is_there_is_never_overwritten(run, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").touch()
    result = _ness("export", run, tmp_path / "a", "--to", "torch")
    assert result.exit_code == 2
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["mine"]


def test_a_folder_whose_logits_are_wrong_never_appears(run, tmp_path, monkeypatch):
    write = Torch.write

    def spoiled(self, subject, folder):
        write(self, subject, folder)
        path = folder / "model.safetensors"
        tensors = load_file(path)
        tensors["head.weight"] = tensors["head.weight"] + 1e-3
        save_file(tensors, path)

    monkeypatch.setattr(Torch, "write", spoiled)
    result = _ness("export", run, tmp_path / "a", "--to", "torch")
    assert result.exit_code == 6
    assert "differ from the run's own" in result.stderr
    assert not list(tmp_path.iterdir())


def test_images_of_ones_own_do_where_prepared_ones_are_gone(run, tmp_path, monkeypatch):
    monkeypatch.setenv("NESS_CACHE", str(tmp_path / "empty"))
    result = _ness("export", run, tmp_path / "a", "--to", "torch")
    assert result.exit_code == 4
    assert "--images" in result.stderr
    (tmp_path / "mine").mkdir()
    generator = torch.Generator().manual_seed(0)
    for index in range(3):
        pixels = torch.randint(256, (9, 7), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(tmp_path / "mine" / f"{index}.png")
    options = ("--images", tmp_path / "mine", "--json")
    result = _ness("export", run, tmp_path / "a", "--to", "torch", *options)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["num_images"] == 3
    assert _ness("export", run, tmp_path / "b", "--to", "torch", "--images", run).exit_code == 4
