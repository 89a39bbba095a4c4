"""A damaged file is found before it is used, named, and left as it is."""

from __future__ import annotations

import shutil

import pytest
from tiny_runs import make_run
from typer.testing import CliRunner

from ness_cli.cli.app import app

_FILES = (
    *("run.json", "stream.json", "settings.yaml", "task-01/train.json", "task-02/accuracy.json"),
    *("task-01/model.safetensors", "task-02/subspace.json", "task-02/update.safetensors"),
    "task-01/covariance.safetensors",
)


def _flipped(at):
    def damage(data):
        place = int(at * (len(data) - 1))
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return damage


_DAMAGES = {
    "first byte": _flipped(0.0),
    "truncated": lambda data: data[: len(data) // 2],
    "emptied": lambda _data: b"",
}


def _ness(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run", "storage.progress_picture=false")


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def _bytes(run):
    files = (path for path in run.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.suffix in (".json", ".safetensors")}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, "first byte") for name in _FILES),
        *(
            pytest.param(name, how, marks=pytest.mark.slow)
            for name in _FILES
            for how in ("truncated", "emptied")
        ),
    ],
)
def test_damage_is_found_named_and_left_as_it_is(run, name, how):
    path = run / name
    path.write_bytes(_DAMAGES[how](path.read_bytes()))
    damaged = _bytes(run)
    result = _ness("verify", run)
    assert result.exit_code in (4, 5), result.stderr
    assert str(path) in result.stderr
    assert "fix: " in result.stderr
    assert _ness("status", run).exit_code in (0, 4, 5)
    assert _bytes(run) == damaged


@pytest.mark.parametrize("number", range(3))
def test_a_changed_value_in_a_record_is_found(run, number):
    path = run / "task-02" / "accuracy.json"
    data = path.read_bytes()
    digits = [place for place, byte in enumerate(data) if chr(byte) in "12345678"]
    place = digits[number * (len(digits) - 1) // 2]
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    result = _ness("report", run)
    assert result.exit_code == 5, result.stderr
    assert f"{path} is damaged" in result.stderr


def test_a_file_of_another_task_is_found_and_the_remedy_brings_the_bits_back(run):
    path = run / "task-01" / "model.safetensors"
    whole = path.read_bytes()
    shutil.copyfile(run / "task-02" / "model.safetensors", path)
    result = _ness("verify", run)
    assert result.exit_code in (4, 5)
    assert f"ness train-task {run} --task 1 --force" in result.stderr
    assert _ness("train-task", run, "--task", 1, "--force").exit_code == 0
    assert path.read_bytes() == whole
    assert _ness("verify", run).exit_code == 0
