"""Files of a run, checked: against their records, and against each other."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from factory import NETS
from rewrite import put_values
from typed_commands import document, good, ness

from ness_cli import tensor_files
from ness_cli.files import read_json, write_record
from ness_cli.hashing import sha256_of_file
from ness_cli.settings.components import METHODS

TINY = [
    *("--preset", "digits", "data.num_tasks=3", "data.limit_per_class=10"),
    *("train.epochs=2", "evaluate.batch_size=100", "evaluate.scenario=both"),
]
NET = ["net.hidden=[12, 10]"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run; copy it before changing it."""
    out = tmp_path_factory.mktemp("verified") / "run"
    good("run", "--out", out, *TINY, *NET)
    return out


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def _net(method):
    own = NETS.get(method)
    if own is None:
        return NET
    values = [f"net.{key}={json.dumps(value)}" for key, value in own.items()]
    return [*values, "data.channels=rgb", "data.size=8"]


@pytest.mark.parametrize("method", METHODS.names())
def test_what_every_method_leaves_is_found_in_order(method, tmp_path):
    out = tmp_path / "run"
    good("run", "--out", out, "--until", 2, f"method.name={method}", *TINY, *_net(method))
    found = document("verify", out, "--evaluate")
    written = list(out.glob("task-*/*.safetensors"))
    assert found["files"] == len(written)
    assert found["bytes"] == sum(path.stat().st_size for path in written)
    assert (found["rows"], found["left_out"]) == (2, [])
    assert found["updates"] == (method in ("ness", "eblora"))
    good("prune", out)
    kept = document("verify", out, "--evaluate")
    assert kept["rows"] + len(kept["left_out"]) == 2
    assert kept["files"] == len(list(out.glob("task-*/*.safetensors")))


def test_a_run_of_three_tasks_in_numbers(run):
    found = document("verify", run)
    # Two layers: U or Q and C of every task; V only makes the weights.
    assert found["matrices"] == 3 * 2 * 2
    assert found["spectra"] == 3 * 2
    assert (found["updates"], found["rows"]) == (2, 0)
    assert "all is as it was written" in " ".join(good("verify", run).stdout.split())


def test_a_changed_byte_and_a_missing_file_are_named(run):
    path = run / "task-02" / "basis.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    result = ness("verify", run)
    assert result.exit_code == 5
    assert f"{path} is damaged" in result.stderr
    (run / "task-01" / "model.safetensors").unlink()
    result = ness("verify", run)
    assert result.exit_code == 4
    assert f"{run / 'task-01' / 'model.safetensors'} is missing" in result.stderr
    assert "ness train-task" in result.stderr


def test_a_checkpoint_that_is_a_link_to_nothing_is_named(run):
    path = run / "task-03" / "checkpoint.safetensors"
    path.symlink_to(run / "gone")
    result = ness("verify", run)
    assert result.exit_code == 4
    assert f"{path} is missing" in result.stderr
    assert "delete it and run: ness train-task" in result.stderr
    assert path.is_symlink()


@pytest.mark.parametrize(
    ("command", "task", "record", "name"),
    [
        ("train-task", 3, "train.json", "history.jsonl"),
        ("train-task", 3, "train.json", "update.safetensors"),
        ("build-subspace", 2, "subspace.json", "basis.safetensors"),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_old_record_goes(
    command, task, record, name, run
):
    place, record = (run / f"task-{task:02d}" / each for each in (name, record))
    place.unlink()
    place.mkdir()
    before = record.read_bytes()
    result = ness(command, run, "--task", task, "--force")
    assert result.exit_code == 4
    assert f"{place} is no file: a folder is in its place" in result.stderr
    assert record.read_bytes() == before
    place.rmdir()
    good(command, run, "--task", task, "--force")
    assert place.is_file()


def _rewrite(run, task, name, change):
    """Change tensors as a faulty program would that keeps its records true."""
    path = run / f"task-{task:02d}" / f"{name}.safetensors"
    tensors, identity = tensor_files.read_with_identity(path, remedy="")
    change(tensors)
    tensor_files.write(path, tensors, {k: v for k, v in identity.items() if k != "format"})
    for record in path.parent.glob("*.json"):
        content = read_json(record, remedy="")
        for key in ("outputs", "inputs"):
            if f"task-{task:02d}/{name}.safetensors" in content.get(key, {}):
                content[key][f"task-{task:02d}/{name}.safetensors"] = sha256_of_file(path)
        write_record(record, content)


def _lengthen(tensors):
    key = next(k for k in tensors if k.endswith((".U", ".Q")) and tensors[k].numel())
    tensors[key] = tensors[key] * 1.01


def _skew(tensors):
    tensors["fc1.C"][0, 1] += tensors["fc1.C"].abs().max()


def _lose_rank(tensors):
    tensors["fc1.sigma"] = tensors["fc1.sigma"].clone()
    tensors["fc1.sigma"][-1] = tensors["fc1.sigma"][-2]


def _move(tensors):
    for key in tensors:
        tensors[key] = tensors[key] * 1.5


def _spoil(tensors):
    tensors["fc1.V"] = tensors["fc1.V"] * torch.nan


@pytest.mark.parametrize(
    ("task", "name", "change", "words"),
    [
        (2, "basis", _lengthen, "its columns are orthonormal only to"),
        (2, "covariance", _skew, "fc1.C: it is symmetric only to"),
        (2, "basis", _lose_rank, "fc1.sigma: it is off that of the covariance"),
        (3, "update", _move, ": it does not follow from the weights before and the update"),
        (3, "update", _spoil, "fc1.V: it is not finite"),
    ],
)
def test_tensors_that_cannot_be_are_found_although_their_hash_is_right(
    task, name, change, words, run
):
    _rewrite(run, task, name, change)
    result = ness("verify", run)
    assert result.exit_code == 5
    assert words in result.stderr


def test_accuracies_that_are_not_measured_again_are_damage(run):
    path = run / "task-03" / "accuracy.json"
    row = read_json(path, remedy="")["task_incremental"]
    put_values(path, {"task_incremental": [row[0] - 5, *row[1:]]})
    assert ness("verify", run).exit_code == 0
    result = ness("verify", run, "--evaluate")
    assert result.exit_code == 5
    assert f"{path}: task_incremental" in result.stderr
