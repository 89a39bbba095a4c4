"""``ness fork`` as it is typed."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from ness_cli.cli.app import app

BASE = ["data.num_tasks=2", "data.limit_per_class=5", "net.hidden=[6]", "train.epochs=1"]


def _ness(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_fork_says_what_it_shares_and_what_comes_next(tmp_path):
    run, other = tmp_path / "run", tmp_path / "fork"
    assert _ness("prepare", "--preset", "digits", "--out", run, *BASE).exit_code == 0
    early = _ness("fork", run, "--out", other)
    assert early.exit_code == 4
    assert f"ness train-task {run} --task 1" in " ".join(early.stderr.split())
    assert _ness("run", "--out", run, "--until", 1).exit_code == 0
    wrong = _ness("fork", run, "--out", other, "train.lr=0.5")
    assert (wrong.exit_code, "train.lr: decides" in wrong.stderr) == (2, True)
    assert _ness("fork", run).exit_code == 2
    made = _ness("fork", run, "--out", other, "methods.ness.eps1=0.2", "--json")
    document = json.loads(made.stdout)
    assert document["changed"] == ["methods.ness.eps1"]
    assert document["shared"] == [{"task": 1, "step": "train-task"}]
    assert document["next"] == f"ness build-subspace {other}"
    assert "forked from" in _ness("status", other).stdout
    assert _ness("run", "--out", other).exit_code == 0
    told = "shares the training of task 1, and differs in methods.ness.eps1; the two are no"
    for report in (_ness("report", other), _ness("report", run, other)):
        assert f"{told} independent runs" in " ".join(report.stdout.split())
