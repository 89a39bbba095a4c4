"""Runs that earlier versions made: read, checked and understood by this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.settings import yaml_files
from ness_cli.settings.resolve import resolve_again

VERSIONS = [
    path for path in sorted(Path(__file__).parent.iterdir()) if (path / "run.json").exists()
]


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def run(request, tmp_path) -> Path:
    return shutil.copytree(request.param, tmp_path / "run")


def _bytes(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*.*") if "task-" in str(path)}


@pytest.mark.parametrize("command", ["status", "report", "verify"])
def test_it_is_read_and_nothing_is_changed(run, command):
    before = _bytes(run)
    result = CliRunner().invoke(app, [command, str(run)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert _bytes(run) == before


def test_its_settings_are_what_they_were(run):
    """What came later has a default that keeps the identity: the tensors would be the same."""
    about = json.loads((run / "run.json").read_text())
    found = resolve_again(yaml_files.read(run / "settings.yaml"), about, (), None)
    identity = found.settings.identity()
    assert {key: identity[key] for key in about["identity"]} == about["identity"]


def test_every_document_says_its_version(run):
    for path in run.rglob("*.json"):
        kind, _, number = json.loads(path.read_text())["schema"].rpartition("/")
        assert kind.startswith("ness.")
        assert int(number) >= 1


def _ness(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    "command",
    [
        ("train-task", "{run}"),
        ("predict", "{run}", "{here}/new.png"),
        ("export", "{run}", "{here}/export", "--to", "torch", "--images", "{here}/new.png"),
        ("fork", "{run}", "--out", "{here}/fork", "methods.ness.eps1=1e-2"),
    ],
    ids=lambda command: command[0],
)
def test_it_is_used_and_nothing_is_changed(run, tmp_path, command):
    before = _bytes(run)
    Image.new("L", (8, 8), 90).save(tmp_path / "new.png")
    result = _ness(*(word.format(run=run, here=tmp_path) for word in command))
    assert result.exit_code == 0, result.stderr
    assert _bytes(run) == before


def test_it_goes_on_with_new_tasks(run):
    before = _bytes(run)
    assert _ness("extend", run, "data.num_tasks=1").exit_code == 0
    result = _ness("run", "--out", run)
    assert result.exit_code == 0, result.stderr
    after = _bytes(run)
    assert {path: after[path] for path in before} == before
    assert _ness("verify", run).exit_code == 0


def test_what_came_later_leaves_its_numbers_alone(run):
    """But for rounding, which torch and the processor decide."""
    paths = sorted(run.glob("task-*/*.safetensors"))
    before = {path: load_file(path) for path in paths}
    for path in (*paths, *run.glob("task-*/*.json")):
        path.unlink()
    result = _ness("run", "--out", run, "--threads", "1")
    assert result.exit_code == 0, result.stderr
    for path, tensors in before.items():
        found = load_file(path)
        for name, tensor in tensors.items():
            if name.endswith((".W", ".weight", ".C", ".sigma", ".tau")):  # no signs, no bases
                torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)


def _put(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _later_format(path: Path) -> None:
    data = path.read_bytes()
    assert data.count(rb"\"format\": 1") == 1
    path.write_bytes(data.replace(rb"\"format\": 1", rb"\"format\": 2"))


LATER = {
    "run.json": (lambda path: _put(path, schema="ness.run/2"), "status"),
    "stream.json": (lambda path: _put(path, schema="ness.stream/3"), "train-task"),
    "task-01/train.json": (lambda path: _put(path, schema="ness.train/2"), "build-subspace"),
    "task-01/model.safetensors": (_later_format, "build-subspace"),
}


@pytest.mark.parametrize("name", LATER)
def test_a_file_of_a_later_version_is_refused_and_left_alone(run, name):
    change, command = LATER[name]
    change(run / name)
    before = _bytes(run)
    forced = () if command == "status" else ("--task", "1", "--force")
    result = _ness(command, run, *forced)
    assert result.exit_code == 4
    assert f"{run / name} was written by a later version of ness" in result.stderr
    assert "go on with that version of ness" in result.stderr
    assert _bytes(run) == before


def test_settings_that_only_a_later_version_knows_are_no_damage(run):
    _put(run / "run.json", versions={"ness": "99.1"})
    settings = run / "settings.yaml"
    settings.write_text(settings.read_text() + "later: {on: true}\n")
    result = _ness("train-task", run)
    assert result.exit_code == 4
    assert f"{settings} was written by ness 99.1" in result.stderr
    assert "go on with ness 99.1" in result.stderr


def test_images_that_a_later_version_prepared_are_left_alone(run, tmp_path, monkeypatch):
    monkeypatch.setenv("NESS_CACHE", str(tmp_path / "cache"))
    assert _ness("prepare", "--out", run).exit_code == 0
    (path,) = (tmp_path / "cache").glob("*/stream.json")
    _put(path, schema="ness.stream/3")
    before = path.read_bytes()
    result = _ness("prepare", "--out", run)
    assert result.exit_code == 4
    assert f"{path} was written by a later version" in result.stderr
    assert path.read_bytes() == before
    assert _ness("cache", "ls").exit_code == 0
