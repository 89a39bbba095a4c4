"""A run typed again: what goes on by itself, what is refused, and in how many words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rewrite import rewrite
from typed_commands import good, ness

from ness_cli.cli.jobs import Jobs

TINY = ("data.num_tasks=3", "train.epochs=1", "net.hidden=[8]", "data.limit_per_class=8")


def _steps(*arguments: object) -> list[tuple[int, str]]:
    (run,) = json.loads(good(*arguments, "--json").stdout)["runs"]
    return [(step["task"], step["step"]) for step in run["steps"]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    good("run", "--out", out, *TINY)
    return out


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def _bytes(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("task-*/*"))}


# -- finished work -------------------------------------------------------------------------------


def test_a_missing_file_does_not_make_run_overwrite_what_is_finished(run):
    (run / "task-01" / "covariance.safetensors").unlink()
    before = _bytes(run)
    result = ness("run", "--out", run)
    assert result.exit_code == 4
    first, *_ = lines = result.stderr.split("error: ")[1].splitlines()
    assert first == f"{run}: finished steps would be made anew:"
    assert lines[1] == (
        "  build-subspace of task 1: task-01/covariance.safetensors, which it wrote, is gone"
    )
    # The three steps of tasks 2 and 3 read what that step wrote, or what was made of it.
    assert lines[-2] == f"  and 1 more, which ness status {run} lists"
    assert len(lines) == 1 + 6 + 1 + 1
    assert f"ness run --out {run} --force" in lines[-1]
    assert lines[-1].endswith(f"ness build-subspace {run} --task 1")
    assert _bytes(run) == before


def test_the_step_named_first_is_enough_where_it_gives_the_same_bits(run):
    before = _bytes(run)
    (run / "task-01" / "covariance.safetensors").unlink()
    good("build-subspace", run, "--task", 1)
    assert _steps("run", "--out", run) == []
    assert _bytes(run).keys() == before.keys()


def test_force_makes_the_missing_anew_and_no_more_than_needed(run):
    before = (run / "task-01" / "covariance.safetensors").read_bytes()
    (run / "task-01" / "covariance.safetensors").unlink()
    assert _steps("run", "--out", run, "--force") == [(1, "build")]
    assert (run / "task-01" / "covariance.safetensors").read_bytes() == before
    assert _steps("run", "--out", run, "--force") == []


def test_a_stale_step_is_listed_with_its_reason_and_redone_by_force(run):
    other = {"task-02/model.safetensors": "0" * 64}
    rewrite(run / "task-02" / "train.json", lambda record: record["outputs"].update(other))
    result = ness("run", "--out", run)
    assert result.exit_code == 4
    assert "task-02/model.safetensors, which it read, has been made anew" in result.stderr
    # What lies beyond the last task asked for is nobody's business.
    assert _steps("run", "--out", run, "--until", 1) == []


def test_a_step_that_lost_its_record_comes_before_what_read_its_work(run):
    (run / "task-02" / "train.json").unlink()
    result = ness("run", "--out", run)
    assert result.exit_code == 4
    assert result.stderr.rstrip().endswith(f"ness train-task {run} --task 2")
    good("train-task", run, "--task", 2)
    assert _steps("run", "--out", run) == []


def test_first_times_and_unfinished_tasks_need_no_force(tmp_path):
    out = tmp_path / "run"
    good("run", "--out", out, "--until", 1, *TINY)
    assert [task for task, _ in _steps("run", "--out", out, "--until", 2)] == [2, 2, 2]
    for name in ("subspace.json", "accuracy.json"):  # as after a kill before build-subspace ended
        (out / "task-02" / name).unlink()
    assert _steps("run", "--out", out)[:2] == [(2, "build"), (2, "evaluate")]


def test_what_keep_latest_removed_is_not_missing(tmp_path):
    out = tmp_path / "run"
    good("run", "--out", out, "storage.keep=latest", *TINY)
    assert not (out / "task-01" / "covariance.safetensors").exists()
    assert _steps("run", "--out", out) == []
    (out / "task-02" / "update.safetensors").unlink()
    assert ness("run", "--out", out).exit_code == 4


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_processes_of_several_seeds_are_told_to_redo_too(force, tmp_path, monkeypatch):
    commands = []

    def ask(jobs: Jobs, runs, place):
        commands.extend(jobs.command(run, place) for run in runs)

    monkeypatch.setattr(Jobs, "bring_to_the_end", ask)
    ness("run", "--out", tmp_path, "--seeds", "1,2", "--until", 0, "--jobs", 2, *TINY, *force)
    assert [command.count("--force") for command in commands] == [len(force)] * 2


# -- other settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["method.name=gpm"], "method.name: ness in the run, gpm asked for"),
        (
            ["method.name=gpm", "methods.gpm.samples=3", "train.lr=3"],
            "method.name: ness in the run, gpm asked for",
        ),
        (["net.name=lenet"], "net.name: mlp in the run, lenet asked for"),
        (["data.source=mnist"], "data.source: digits in the run, mnist asked for"),
        (["train.sam.tasks=all"], "train.sam.tasks: none in the run, all asked for"),
        (["net.hidden=[8,9]"], "net.hidden: [8] in the run, [8,9] asked for"),
    ],
)
def test_what_a_run_was_prepared_with_is_named_in_one_line(run, changes, words):
    result = ness("run", "--out", run, *changes)
    assert result.exit_code == 4
    what, remedy = result.stderr.splitlines()
    assert what == f"error: {run} was prepared with other settings: {words}"
    assert remedy == "  fix: choose another --out, or delete the folder"


# -- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (["--seed", "3", "seed=7"], "--seed 3 and seed=7 contradict"),
        (["--seeds", "1,2", "seed=7"], "--seeds 1,2 and seed=7 contradict"),
        (["--seeds", "1,2", "seed=2"], "--seeds 1,2 and seed=2 contradict"),
        (["--seed", "3", "seed=3", "seed=7"], "--seed 3 and seed=7 contradict"),
    ],
)
def test_seeds_that_contradict_each_other_are_refused(seeds, words, tmp_path):
    result = ness("prepare", "--dry-run", "--out", tmp_path / "x", *seeds)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize(
    ("typed", "option"),
    [("device=cpu", "--device cpu"), ("dry_run=true", "--dry-run"), ("seeds=1,2", "--seeds 1,2")],
)
def test_an_option_typed_like_a_setting_is_named_as_it_is_typed(typed, option, tmp_path):
    result = ness("prepare", "--dry-run", "--out", tmp_path / "x", typed)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == f"error: {typed} is no setting"
    assert result.stderr.splitlines()[1] == f"  fix: it is an option: {option}"


def test_an_option_that_a_command_does_not_have_is_not_offered(tmp_path):
    result = ness("run", "--out", tmp_path / "x", "dry_run=true")
    assert result.exit_code == 2
    assert "it is an option" not in result.stderr


def test_a_seed_given_twice_alike_is_no_contradiction(tmp_path):
    arguments = ("prepare", "--dry-run", "--json", "--out", tmp_path / "x", "seed=3", *TINY)
    for more in (["--seed", 3], ["--seeds", 3], ["seed=3"]):
        (plan,) = json.loads(good(*arguments, *more).stdout)["runs"]
        assert plan["settings"]["seed"] == 3
