"""``ness extend`` as it is typed."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from ness_cli.cli.app import app

BASE = ["data.num_tasks=1", "data.limit_per_class=5", "net.hidden=[6]", "train.epochs=1"]


def _ness(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def run(tmp_path):
    run = tmp_path / "run"
    assert _ness("prepare", "--preset", "digits", "--out", run, *BASE).exit_code == 0
    return run


def test_tasks_are_shown_appended_and_taken_back(run):
    planned = _ness("extend", run, "data.num_tasks=2", "--dry-run", "--json")
    document = json.loads(planned.stdout)
    assert (document["schema"], document["is_plan"]) == ("ness.extend/1", True)
    assert [task["number"] for task in document["stream"]["tasks"]] == [2, 3]
    assert json.loads(_ness("status", run, "--json").stdout)["runs"][0]["num_tasks"] == 1
    added = _ness("extend", run, "data.num_tasks=2", "train.epochs=2")
    assert added.exit_code == 0, added.stderr
    assert f"Next: ness train-task {run}" in added.stderr
    assert "permutation-3" in added.stdout
    status = _ness("status", run)
    assert "tasks 2 to 3: added with data.num_tasks=2 train.epochs=2" in " ".join(
        status.stdout.split()
    )
    back = _ness("extend", run, "--undo")
    assert "tasks 2 to 3 are taken back" in back.stderr
    assert _ness("extend", run, "--undo").exit_code == 4


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["seed=3"], 2, "seed: belongs to the whole run"),
        (["--undo", "data.num_tasks=1"], 2, "--undo takes no settings"),
        (["undo=true"], 2, "it is an option: --undo"),
        (["data.path=nowhere.zip"], 4, "nowhere.zip"),
    ],
)
def test_what_is_wrong_is_said_with_its_code(run, words, code, what):
    result = _ness("extend", run, *words)
    assert result.exit_code == code
    assert what in " ".join(result.stderr.split())


def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path):
    result = _ness("extend", tmp_path / "no", "data.num_tasks=1")
    assert result.exit_code == 4
    assert not (tmp_path / "no").exists()


def test_the_report_says_over_which_tasks_its_means_are(run):
    _ness("extend", run, "data.num_tasks=1", "train.epochs=2")
    assert _ness("run", "--out", run).exit_code == 0
    report = " ".join(_ness("report", run).stdout.split())
    assert "means are over tasks 1 to 2; task 2 added later" in report
    assert "task 2: added with data.num_tasks=1 train.epochs=2" in report
    document = json.loads(_ness("report", run, "--json").stdout)["runs"][0]
    assert (document["acc_tasks"], document["tasks_done"]) == ([1, 2], 2)
