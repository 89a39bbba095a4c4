"""Forks of a run: what they share is linked, and they end as runs of their own settings would."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ness_cli.console import Progress
from ness_cli.errors import DamagedError, InputError, SettingsError
from ness_cli.files import write_record
from ness_cli.results.read_run import read_run
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_run_record, read_state
from ness_cli.settings import yaml_files
from ness_cli.settings.components import METHODS
from ness_cli.settings.fork import trainings_before
from ness_cli.settings.resolve import resolve, resolve_again
from ness_cli.stages import fork as stage
from ness_cli.stages.context import RunContext
from ness_cli.stages.extend import extend
from ness_cli.stages.fork import fork
from ness_cli.stages.prepare import prepare
from ness_cli.stages.run import run_steps
from ness_cli.stages.train_task import train_task
from ness_cli.workplace import Workplace

TINY = ["net.hidden=[6]", "train.epochs=1", "train.batch_size=16", "data.limit_per_class=5"]
# For every method with options that its first training does not read: all of them, changed.
CHANGED = {
    "adam-nscl": {
        "threshold": "energy",
        "factor": 3.0,
        "energy": 0.1,
        "covariance": "batch-mean",
        "scaling": "frobenius",
    },
    "code-cl": {"aperture": 2.0, "samples": 9},
    "ewc": {
        "strength": 3.0,
        "fisher_batch": 7,
        "fisher_samples": 9,
        "merge": "online",
        "decay": 0.5,
    },
    "gpm": {
        "threshold": 0.5,
        "threshold_increase": 0.1,
        "samples": 9,
        "layer_samples": [5],
        "first_rank": "reach",
    },
    "lwf": {"strength": 3.0, "temperature": 1.0},
    "ness": {
        "eps1": 0.1,
        "layer_eps1": {"fc1": 0.2},
        "threshold": "frobenius",
        "scaling": "bounded",
        "gamma": 2.0,
        "max_output_change": 1.0,
        "anchor": 0.1,
        "budget": 0.1,
        "budget_over": "pool",
        "layer_budget": {"fc1": 0.2},
        "budget_steps": 2,
        "mix_by": "restricted",
        "mix_samples": 7,
        "covariance": "recompute",
    },
}
CHANGED |= dict.fromkeys(("dfgp", "trgp"), CHANGED["gpm"])
CHANGED |= {"sgp": {**CHANGED["gpm"], "scale_coefficient": 1.0}}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("cache"), "cpu", progress=Progress())


def _prepared(path, workplace, *overrides):
    run = RunDir(path)
    with run.lock():
        prepare(run, resolve("digits", [*TINY, *overrides]), workplace)
    return run


def _trained(run, workplace, until=None):
    with run.lock():
        run_steps(RunContext(run, workplace), until=until, on_step=lambda *_: None)
    return run


def _forked(run, path, workplace, *overrides, after=1):
    out = RunDir(path)
    with run.lock():
        forked = fork(run, out, overrides, workplace, after=after)
    return out, [(step.step, step.task) for step in forked.shared]


def _tensors(run):
    paths = sorted(run.path.glob("task-*/*.safetensors"))
    return {path.relative_to(run.path).as_posix(): load_file(path) for path in paths}


def _assert_same_tensors(one, other):
    mine, theirs = _tensors(one), _tensors(other)
    assert mine.keys() == theirs.keys()
    for name, tensors in mine.items():
        assert tensors.keys() == theirs[name].keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, theirs[name][key]), (name, key)


def _bytes(run):
    kept = [path for path in sorted(run.path.rglob("*")) if path.suffix in (".json", ".yaml")]
    return {path: path.read_bytes() for path in [*kept, *run.path.glob("*/*.safetensors")]}


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("ness", "methods.ness.eps1=0.2"),
        ("ness", "methods.ness.budget=0.05"),
        ("gpm", "methods.gpm.threshold=0.6"),
        ("ewc", "methods.ewc.strength=3.0"),
    ],
)
def test_a_fork_ends_as_a_run_with_its_settings_would(tmp_path, workplace, method, change):
    words = ["data.num_tasks=2", f"method.name={method}"]
    expected = _trained(_prepared(tmp_path / "expected", workplace, *words, change), workplace)
    run = _trained(_prepared(tmp_path / "run", workplace, *words), workplace)
    before = _bytes(run)
    other, shared = _forked(run, tmp_path / "fork", workplace, change)
    assert shared == [("train", 1)]
    model = run.task(1).tensors("model")
    assert os.path.samefile(model, other.task(1).tensors("model"))
    assert read_state(other).next().step == "build"
    _trained(other, workplace)
    assert os.path.samefile(model, other.task(1).tensors("model"))
    _assert_same_tensors(other, expected)
    assert read_run(other.path).task_incremental == read_run(expected.path).task_incremental
    assert _bytes(run) == before


@pytest.mark.parametrize(
    ("method", "change", "back", "early"),
    [
        ("gpm", "threshold_increase=0.3", "threshold_increase=0.003", "threshold=0.3"),
        ("ewc", "merge=online", "merge=mean", "strength=3.0"),
    ],
)
def test_more_is_shared_where_nothing_of_it_depends_on_the_setting(
    tmp_path, workplace, method, change, back, early
):
    change, back, early = (f"methods.{method}.{each}" for each in (change, back, early))
    words = ["data.num_tasks=3", f"method.name={method}"]
    expected = _trained(_prepared(tmp_path / "expected", workplace, *words, change), workplace)
    run = _trained(_prepared(tmp_path / "run", workplace, *words), workplace, until=2)
    before = _bytes(run)
    with pytest.raises(SettingsError, match="decides the training of task 2") as refused:
        _forked(run, tmp_path / "fork", workplace, early, change, after=2)
    assert refused.value.remedy == "fork it with --after 1"
    other, shared = _forked(run, tmp_path / "fork", workplace, change, after=2)
    assert shared == [("train", 1), ("build", 1), ("evaluate", 1), ("train", 2)]
    done = [step.status for step in read_state(other).steps]
    assert done == ["done"] * 4 + ["pending"] * 5
    # A branch of the fork has them from the first run, too.
    third, _ = _forked(other, tmp_path / "third", workplace)
    for each in (other, third):
        _assert_same_tensors(_trained(each, workplace), expected)
        assert read_state(each).next() is None
    assert _bytes(run) == before
    mine, theirs = _tensors(run), _tensors(other)
    kept = [(value, theirs[name].get(key)) for name in mine for key, value in mine[name].items()]
    assert not all(x is None or torch.equal(value, x) for value, x in kept)
    with pytest.raises(SettingsError, match="decides the training of task 3"):
        _forked(expected, tmp_path / "late", workplace, back, after=3)


def test_a_fork_of_an_earlier_version_reads_as_it_did(tmp_path, workplace):
    run = _trained(_prepared(tmp_path / "run", workplace, "data.num_tasks=1"), workplace)
    other, _ = _forked(run, tmp_path / "fork", workplace, "methods.ness.eps1=0.2")
    _trained(other, workplace)
    record = read_run_record(other)
    found = record["forked"].pop("fingerprints")
    record["forked"]["training_fingerprint"] = found["train 1"]
    write_record(other.run, record)
    assert read_state(other).next() is None


def test_a_branch_shares_all_that_is_done_and_may_be_extended_otherwise(tmp_path, workplace):
    words = ["data.num_tasks=3", "method.name=ness"]
    run = _trained(_prepared(tmp_path / "run", workplace, *words), workplace)
    before = _bytes(run)
    other, shared = _forked(run, tmp_path / "fork", workplace, after=2)
    assert shared == [(step, task) for task in (1, 2) for step in ("train", "build", "evaluate")]
    state = read_state(other)
    assert (state.num_tasks, state.next().step, state.next().task) == (3, "train", 3)
    with other.lock():
        extend(other, None, ["data.num_tasks=1", "train.epochs=2"], workplace)
    _trained(other, workplace)
    assert _bytes(run) == before
    mine, theirs = _tensors(run), _tensors(other)
    for name, tensors in mine.items():
        assert all(torch.equal(tensor, theirs[name][key]) for key, tensor in tensors.items())
    assert read_state(other).num_tasks == 4
    # Typed again it is a run as any other, and a fork of a fork is one too.
    again = resolve_again(yaml_files.read(other.settings), read_run_record(other), [], None)
    with other.lock():
        assert prepare(other, again, workplace).was_there
    third, _ = _forked(other, tmp_path / "third", workplace, "methods.ness.eps1=0.1")
    _trained(third, workplace)
    assert read_state(third).next() is None


def test_a_fork_of_an_extended_run_has_its_extensions(tmp_path, workplace):
    change = "methods.ness.eps1=0.2"
    whole = _prepared(tmp_path / "whole", workplace, "data.num_tasks=2", change)
    run = _prepared(tmp_path / "run", workplace, "data.num_tasks=1")
    with run.lock():
        extend(run, None, ["data.num_tasks=1"], workplace)
    _trained(run, workplace)
    other, _ = _forked(run, tmp_path / "fork", workplace, change)
    assert [step.status for step in read_state(other).steps] == ["done"] + 5 * ["pending"]
    _assert_same_tensors(_trained(other, workplace), _trained(whole, workplace))


def test_records_say_that_forks_are_no_independent_runs(tmp_path, workplace):
    run = _trained(_prepared(tmp_path / "run", workplace, "data.num_tasks=2"), workplace, until=1)
    other, _ = _forked(run, tmp_path / "fork", workplace, "methods.ness.eps1=0.2")
    (note,) = [note for note in read_run(other.path).notes if "forked" in note]
    assert "shares the training of task 1, and differs in methods.ness.eps1" in note
    assert "no independent runs" in note


@pytest.mark.parametrize(
    ("overrides", "after", "message"),
    [
        (["train.lr=0.5"], 1, r"^train\.lr: decides the training of task 1"),
        (["seed=7", "methods.ness.eps1=0.2"], 1, r"^seed: decides"),
        (["method.name=gpm"], 1, r"^method\.name: decides"),
        (["methods.ness.mix=2"], 1, r"^methods\.ness\.mix: decides"),
        (["methods.ness.eps1=0.2"], 2, r"^methods\.ness\.eps1: decides the training of task 2"),
    ],
)
def test_a_setting_that_decides_a_shared_step_is_refused(
    tmp_path, workplace, overrides, after, message
):
    run = _prepared(tmp_path / "run", workplace, "data.num_tasks=2", "method.name=ness")
    with pytest.raises(SettingsError, match=message):
        _forked(run, tmp_path / "fork", workplace, *overrides, after=after)
    assert not (tmp_path / "fork").exists()


def test_what_is_not_there_cannot_be_shared(tmp_path, workplace):
    run = _prepared(tmp_path / "run", workplace, "data.num_tasks=3", "storage.keep=latest")
    with pytest.raises(InputError, match="train of task 1 has not been done"):
        _forked(run, tmp_path / "fork", workplace)
    with pytest.raises(InputError, match="--after: 4 is not between 1 and 3"):
        _forked(run, tmp_path / "fork", workplace, after=4)
    _trained(run, workplace, until=2)
    with pytest.raises(InputError, match="is there already"):
        _forked(run, run.path, workplace)
    with pytest.raises(InputError, match=r"covariance\.safetensors is not kept"):
        _forked(run, tmp_path / "fork", workplace)
    other, _ = _forked(run, tmp_path / "fork", workplace, after=2)
    _trained(run, workplace)
    _assert_same_tensors(_trained(other, workplace), run)


def test_what_a_fork_consolidates_anew_needs_the_memory_before(tmp_path, workplace):
    words = ["data.num_tasks=3", "method.name=gpm", "storage.keep=latest"]
    run = _trained(_prepared(tmp_path / "run", workplace, *words), workplace, until=2)
    change = "methods.gpm.threshold_increase=0.3"
    with pytest.raises(InputError, match=r"task-01/memory\.safetensors is not kept"):
        _forked(run, tmp_path / "fork", workplace, change, after=2)
    _forked(run, tmp_path / "fork", workplace, after=2)


def test_a_damaged_file_is_not_shared_and_nothing_half_made_is_left(tmp_path, workplace):
    run = _trained(_prepared(tmp_path / "run", workplace, "data.num_tasks=2"), workplace, until=1)
    path = run.task(1).tensors("basis")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match=r"basis\.safetensors is damaged"):
        _forked(run, tmp_path / "fork", workplace)
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_files_are_copied_where_the_disk_has_no_links(tmp_path, workplace, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(stage.os, "link", refused)
    run = _trained(_prepared(tmp_path / "run", workplace, "data.num_tasks=2"), workplace, until=1)
    other, _ = _forked(run, tmp_path / "fork", workplace)
    model = Path("task-01", "model.safetensors")
    assert not os.path.samefile(run.path / model, other.path / model)
    assert (run.path / model).read_bytes() == (other.path / model).read_bytes()


def _marked(method):
    model = METHODS.model(method, setting="method.name")
    return {name for name in model.model_fields if model.marked(name, "read_after_training")}


def test_every_option_that_forks_may_change_is_among_those_tried_here():
    marked = {name: found for name in METHODS.names() if (found := _marked(name))}
    assert {name: set(options) for name, options in CHANGED.items()} == marked


def _first_steps(path, workplace, method, trainings, *changes):
    run = _prepared(path, workplace, f"data.num_tasks={trainings}", f"method.name={method}",
                    *(f"methods.{method}.{name}={yaml_files.typed(value)}"
                      for name, value in changes))  # fmt: skip
    if trainings > 1:
        _trained(run, workplace, until=trainings - 1)
    with run.lock():
        train_task(RunContext(run, workplace))
    return run


def _changes(method, trainings):
    """Return the overrides that nothing may depend on before so many tasks are trained."""
    return [
        f"methods.{method}.{name}={yaml_files.typed(value)}"
        for name, value in CHANGED[method].items()
        if trainings_before(f"methods.{method}.{name}") >= trainings
    ]


@pytest.mark.parametrize(
    ("method", "trainings"), [(m, n) for m in sorted(CHANGED) for n in (1, 2) if _changes(m, n)]
)
def test_the_first_trainings_read_no_option_that_forks_may_change(
    tmp_path, workplace, method, trainings
):
    words = [f"data.num_tasks={trainings}", f"method.name={method}"]
    runs = [
        _prepared(tmp_path / "plain", workplace, *words),
        _prepared(tmp_path / "changed", workplace, *words, *_changes(method, trainings)),
    ]
    for run in runs:
        if trainings > 1:
            _trained(run, workplace, until=trainings - 1)
        with run.lock():
            train_task(RunContext(run, workplace))
    _assert_same_tensors(*runs)
