"""Two gloo processes make the steps of a run: the same numbers to rounding, one set of files."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from forked import Ended, Moment, Processes
from rounding import assert_same_gram
from safetensors.torch import load_file
from typer.testing import CliRunner

from ness_cli.cli.app import app

WITH_ANY_NET = [
    "--preset",
    "digits",
    "data.num_tasks=2",
    "train.epochs=2",
    "train.batch_size=63",  # two unequal halves, and a last batch of another size
    "train.weight_decay=1e-3",
    "evaluate.batch_size=50",  # several batches to divide in build-subspace
    "checkpoint.seconds=0",
]
MLP = ["net.hidden=[32, 32]", "net.batch_norm=true", "norm.affine=per-task"]
VIT = [
    *("net.name=torchvision", "net.model=VisionTransformer", "net.prompts=4", "data.channels=rgb"),
    "net.arguments={patch_size: 4, num_layers: 2, num_heads: 2, hidden_dim: 16, mlp_dim: 16}",
]
SETTINGS = [*WITH_ANY_NET, *MLP]


@pytest.fixture(scope="module")
def learned(processes, tmp_path_factory) -> Path:
    """A run of one process: task 1 consolidated, task 2 trained and consolidated."""
    out = tmp_path_factory.mktemp("one") / "run"
    ended = processes.ness("run", "--out", out, *SETTINGS, "--threads", 1)
    assert ended.code == 0, ended.err
    return out


def _copy(run: Path, to: Path, *gone: str) -> Path:
    shutil.copytree(run, to)
    for name in gone:
        (to / name).unlink()
    return to


def _divided(processes: Processes, *arguments: object) -> None:
    for ended in processes.ness_divided(*arguments, "--threads", 1):
        assert ended.code == 0, ended.err


def _torchrun(*arguments: object) -> Ended:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    return Ended(0, ended.returncode, ended.stdout, ended.stderr)


def _both(ended: list[Ended]) -> Ended:
    """Return what a launcher of two processes shows."""
    out, err = ("".join(getattr(each, name) for each in ended) for name in ("out", "err"))
    return Ended(0, max(each.code != 0 for each in ended), out, err)


IN_FORKS_OR_BY_TORCHRUN = pytest.mark.parametrize(
    "is_forked", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["forks", "torchrun"]
)


@IN_FORKS_OR_BY_TORCHRUN
def test_training_divided_in_two_is_training_to_rounding(processes, learned, tmp_path, is_forked):
    gone = ("task-02/train.json", "task-02/subspace.json", "task-02/accuracy.json")
    run = _copy(learned, tmp_path / "run", *gone)
    assert "seconds: 0.0" in (run / "settings.yaml").read_text()
    # The processes then ask each other only now and then whether to save or stop.
    assert processes.ness("prepare", "--out", run, "checkpoint.seconds=60").code == 0
    step = ("train-task", run, "--json")
    ended = (
        _both(processes.ness_divided(*step, "--threads", 1))
        if is_forked
        else _torchrun("-m", "ness_cli", *step)
    )
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["record"]["processes"] == 2  # one document, from one process
    one, two = (load_file(r / "task-02" / "model.safetensors") for r in (learned, run))
    first = load_file(learned / "task-01" / "model.safetensors")
    for name, tensor in one.items():
        # Measured: 2e-7; a share or weight of a batch that is wrong shows in the third digit.
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=2e-4)
        if name in first and name.endswith("fc1.weight"):
            assert (tensor - first[name]).norm() > 1e-2  # it did train
    history = [
        [json.loads(line) for line in (r / "task-02" / "history.jsonl").read_text().splitlines()]
        for r in (learned, run)
    ]
    for mine, other in zip(*history, strict=True):
        assert mine["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)


OF_METHODS = {
    "agem": [],
    "eblora": ["train.epochs=2", "train.head_epochs=1"],
    "er": [],
    # No gradients that are nothing but rounding, which Adam makes as long as any other.
    "halrp": ["train.epochs=2", "train.optimizer=adam", "net.batch_norm=false", "net.biases=true"],
    # Soft enough that no rounding decides whether a unit is open.
    "hat": ["methods.hat.sharpness=10"],
    "nsp2": ["train.optimizer=adam", "train.lr=1e-3"],
    "owm": [],
    "trgp": [],
    "adam-nscl": ["norm.affine=frozen", "methods.adam-nscl.norm_strength=10"],
    "ness": ["methods.ness.mix=8"],
    # So low that every update is moved to the limit, within the epoch and at its end.
    "ness with a budget": ["methods.ness.budget=1e-3", "methods.ness.budget_steps=3"],
}


SLOW = ("eblora", "halrp", "hat", "nsp2")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c in SLOW)) for c in OF_METHODS]
)
def test_what_a_method_makes_of_a_step_is_the_same_divided_in_two(processes, tmp_path, case):
    out = tmp_path / "one"
    method = case.partition(" ")[0]
    net = VIT if method == "nsp2" else MLP
    settings = [*WITH_ANY_NET, *net, "train.epochs=1", f"method.name={method}", *OF_METHODS[case]]
    ended = processes.ness("run", "--out", out, *settings, "--threads", 1)
    assert ended.code == 0, ended.err
    gone = ("task-02/train.json", "task-02/subspace.json", "task-02/accuracy.json")
    run = _copy(out, tmp_path / "two", *gone)
    _divided(processes, "train-task", run)
    if case in SLOW:
        _divided(processes, "build-subspace", run)
    for path in sorted((out / "task-02").glob("*.safetensors")):
        one, two = load_file(path), load_file(run / "task-02" / path.name)
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=2e-4, msg=name)


def test_covariances_of_two_processes_add_up_to_those_of_one(processes, learned, tmp_path):
    run = _copy(learned, tmp_path / "run", "task-02/subspace.json", "task-02/accuracy.json")
    _divided(processes, "build-subspace", run, "--force")
    one, two = (load_file(r / "task-02" / "covariance.safetensors") for r in (learned, run))
    assert one.keys() == two.keys()
    # Every training image of both tasks is one row of each layer.
    tasks = json.loads((run / "stream.json").read_text())["tasks"]
    num_rows = sum(task["splits"]["train"]["count"] for task in tasks)
    for name, tensor in one.items():
        assert_same_gram(two[name], tensor, num_rows)


def test_stopped_halfway_two_processes_go_on_with_the_same_bytes(processes, learned, tmp_path):
    gone = ("task-02/train.json", "task-02/subspace.json", "task-02/accuracy.json")
    undisturbed = _copy(learned, tmp_path / "a", *gone)
    _divided(processes, "train-task", undisturbed)
    run = _copy(learned, tmp_path / "b", *gone)
    checkpoint = run / "task-02" / "checkpoint.safetensors"
    # The signal reaches the first process only: it is agreed on to stop.
    moment = Moment(str(checkpoint), 3, touch="os.rename", signal=signal.SIGTERM)
    both = processes.ness_divided("train-task", run, "--threads", 1, moment=moment)
    assert [ended.code for ended in both] == [75, 75]
    assert checkpoint.exists()
    assert not (run / "task-02" / "train.json").exists()
    _divided(processes, "train-task", run)
    for name in ("model", "update"):
        path = Path("task-02") / f"{name}.safetensors"
        assert (run / path).read_bytes() == (undisturbed / path).read_bytes()


FAILING = """
import sys
sys.path.insert(0, {tests!r})
from stages.one_fails import fail_in_the_second
fail_in_the_second(is_killed={is_killed})
from ness_cli.cli.app import main
main()
"""


@IN_FORKS_OR_BY_TORCHRUN
@pytest.mark.parametrize("is_killed", [False, True])
def test_one_process_that_fails_ends_all_with_one_message(
    processes, learned, tmp_path, is_killed, is_forked
):
    gone = ("task-02/train.json", "task-02/subspace.json", "task-02/accuracy.json")
    run = _copy(learned, tmp_path / "run", *gone)
    step = ("train-task", run, "--json")
    if is_forked:
        failing = ("stages.one_fails", "fail_in_the_second", {"is_killed": is_killed})
        ended = _both(processes.ness_divided(*step, "--threads", 1, before=failing))
    else:
        program = FAILING.format(tests=str(Path(__file__).parents[1]), is_killed=is_killed)
        (tmp_path / "failing.py").write_text(program)
        ended = _torchrun(tmp_path / "failing.py", *step)
    assert ended.code == 1
    said = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    found = json.loads(ended.out)["error"]
    if is_killed:
        assert said == ["error: another process of this step has ended"]
        assert found["exit_code"] == 8
    else:
        assert said == ["error: no number"]
        assert (found["what"], found["exit_code"]) == ("process 1: no number", 6)
    assert "Connection closed" not in ended.err


@pytest.mark.parametrize("command", ["run", "evaluate"])
def test_a_step_that_cannot_be_divided_says_so(learned, command, monkeypatch):
    told = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    arguments = ["--out", str(learned), *SETTINGS] if command == "run" else [str(learned)]
    result = CliRunner().invoke(app, [command, *arguments])
    assert result.exit_code == 4
    assert "cannot be divided among 2 processes" in result.stderr
