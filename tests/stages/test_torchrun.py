"""Two gloo processes make the steps of a run: the same numbers to rounding, one set of files."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rounding import assert_same_gram
from safetensors.torch import load_file

SETTINGS = [
    "--preset",
    "digits",
    "data.num_tasks=2",
    "train.epochs=2",
    "train.batch_size=63",  # two unequal halves, and a last batch of another size
    "train.weight_decay=1e-3",
    "net.hidden=[32, 32]",
    "net.batch_norm=true",
    "norm.affine=per-task",
    "evaluate.batch_size=50",  # several batches to divide in build-subspace
    "checkpoint.seconds=0",
]


def _ness(*arguments: object, processes: int = 1) -> subprocess.Popen:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "ness_cli"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _good(*arguments: object, processes: int = 1) -> str:
    process = _ness(*arguments, processes=processes)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Path:
    """A run of one process: task 1 consolidated, task 2 trained and consolidated."""
    out = tmp_path_factory.mktemp("one") / "run"
    _good("run", "--out", out, *SETTINGS)
    return out


def _copy(run: Path, to: Path, *gone: str) -> Path:
    shutil.copytree(run, to)
    for name in gone:
        (to / name).unlink()
    return to


def test_training_divided_in_two_is_training_to_rounding(learned, tmp_path):
    gone = ("task-02/train.json", "task-02/subspace.json", "task-02/accuracy.json")
    run = _copy(learned, tmp_path / "run", *gone)
    out = _good("train-task", run, "--json", processes=2)
    assert json.loads(out)["record"]["processes"] == 2  # one document, from one process
    one, two = (load_file(r / "task-02" / "model.safetensors") for r in (learned, run))
    first = load_file(learned / "task-01" / "model.safetensors")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=2e-4)
        if name in first and name.endswith("fc1.weight"):
            assert (tensor - first[name]).norm() > 1e-2  # it did train
    history = [
        [json.loads(line) for line in (r / "task-02" / "history.jsonl").read_text().splitlines()]
        for r in (learned, run)
    ]
    for mine, other in zip(*history, strict=True):
        assert mine["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)


def test_covariances_of_two_processes_add_up_to_those_of_one(learned, tmp_path):
    run = _copy(learned, tmp_path / "run", "task-02/subspace.json", "task-02/accuracy.json")
    _good("build-subspace", run, "--force", processes=2)
    one, two = (load_file(r / "task-02" / "covariance.safetensors") for r in (learned, run))
    assert one.keys() == two.keys()
    # Every training image of both tasks is one row of each layer.
    tasks = json.loads((run / "stream.json").read_text())["tasks"]
    num_rows = sum(task["splits"]["train"]["count"] for task in tasks)
    for name, tensor in one.items():
        assert_same_gram(two[name], tensor, num_rows)


def test_stopped_halfway_two_processes_go_on_with_the_same_bytes(learned, tmp_path):
    gone = ("task-02/train.json", "task-02/subspace.json", "task-02/accuracy.json")
    undisturbed = _copy(learned, tmp_path / "a", *gone)
    _good("train-task", undisturbed, processes=2)
    run = _copy(learned, tmp_path / "b", *gone)
    process = _ness("train-task", run, processes=2)
    checkpoint = run / "task-02" / "checkpoint.safetensors"
    end = time.monotonic() + 60
    while not checkpoint.exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert checkpoint.exists()
    assert not (run / "task-02" / "train.json").exists()
    _good("train-task", run, processes=2)
    for name in ("model", "update"):
        path = Path("task-02") / f"{name}.safetensors"
        assert (run / path).read_bytes() == (undisturbed / path).read_bytes()


@pytest.mark.parametrize("command", ["run", "evaluate"])
def test_a_step_that_cannot_be_divided_says_so(learned, command):
    arguments = ("--out", learned, *SETTINGS) if command == "run" else (learned,)
    process = _ness(command, *arguments, processes=2)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "cannot be divided among 2 processes" in err
