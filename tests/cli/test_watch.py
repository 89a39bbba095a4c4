"""``ness status --watch``: looking on until runs are done."""

from __future__ import annotations

import json
import signal

import pytest
import torch
from followed import made_up
from typer.testing import CliRunner

from ness_cli.cli import watch as module
from ness_cli.cli.app import app
from ness_cli.console import Progress
from ness_cli.stages.live_progress import LiveProgress


def _watch(monkeypatch, path, *steps, more=()):
    """Watch a run; before each look but the first, a step happens."""
    left = list(steps)

    def sleep(seconds: float) -> None:
        assert left, "it must have ended by now"
        left.pop(0)()

    monkeypatch.setattr(module.time, "sleep", sleep)
    return CliRunner().invoke(app, ["status", str(path), "--watch", *more], catch_exceptions=False)


def test_it_says_a_line_for_everything_new_and_ends_when_the_run_is_done(monkeypatch, tmp_path):
    path = made_up(tmp_path / "a", 0).path
    ended = _watch(
        monkeypatch,
        tmp_path,
        lambda: None,
        lambda: made_up(path, 1),
        lambda: None,
        lambda: made_up(path, 2),
    )
    assert ended.exit_code == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if "tasks done" in line]
    assert [line.split(": gpm, ")[1].split(";")[0].split(",")[0] for line in lines] == [
        "0/2 tasks done",
        "1/2 tasks done",
        "2/2 tasks done",
    ]
    assert "no process works on it" in lines[0]
    assert lines[-1].endswith("; done")


def test_a_damaged_run_is_shown_as_that_and_does_not_hold_up_the_others(monkeypatch, tmp_path):
    made_up(tmp_path / "a", 2)
    (made_up(tmp_path / "b", 1).path / "task-01" / "train.json").write_text("{")
    ended = _watch(monkeypatch, tmp_path)
    assert "a: gpm, 2/2 tasks done" in ended.stdout
    assert "train.json is damaged" in ended.stdout
    assert ended.exit_code == 5  # the status that follows


def test_as_json_it_waits_and_gives_the_usual_document(monkeypatch, tmp_path):
    path = made_up(tmp_path / "a", 1).path
    ended = _watch(monkeypatch, path, lambda: made_up(path, 2), more=["--json"])
    (run,) = json.loads(ended.stdout)["runs"]
    assert run["complete"]


def test_the_first_ctrl_c_ends_it_without_a_traceback(monkeypatch, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    path = made_up(tmp_path / "a", 1).path
    ended = _watch(monkeypatch, path, lambda: signal.raise_signal(signal.SIGINT))
    assert ended.exit_code == 130
    assert ended.stderr == "interrupted\n"
    assert signal.getsignal(signal.SIGINT) == before


def test_a_request_to_stop_ends_it_too(monkeypatch, tmp_path):
    path = made_up(tmp_path / "a", 1).path
    ended = _watch(monkeypatch, path, lambda: signal.raise_signal(signal.SIGTERM))
    assert ended.exit_code == 75
    assert f"to go on, run: ness status --watch {path}" in ended.stderr


# -- what there is to see ------------------------------------------------------------------------


def test_a_step_is_written_down_while_it_lasts(tmp_path, monkeypatch):
    run = made_up(tmp_path / "a", 1)
    clock = iter([0.0, 1.0, 2.0, 2.5, 4.0, 99.0])
    monkeypatch.setattr("ness_cli.stages.live_progress.time.monotonic", lambda: next(clock))
    progress = LiveProgress(Progress(), run, torch.device("cpu"))
    with progress.track("task 2/2: training", 20) as advance:
        advance(8, "resumed")  # says nothing about the speed
        assert json.loads(run.live.read_text())["seconds_per_unit"] is None
        advance(1)
        assert json.loads(run.live.read_text())["seconds_per_unit"] == 1.0
        advance(1)  # half a second later
        assert json.loads(run.live.read_text())["done"] == 9
        advance(2, "epoch 2/3")
        found = json.loads(run.live.read_text())
        assert (found["done"], found["total"], found["info"]) == (12, 20, "epoch 2/3")
        assert found["seconds_per_unit"] == pytest.approx(3 / 4)
        assert found["peak_memory_bytes"] > 0
    assert not run.live.exists()


def test_nothing_is_written_into_a_run_that_is_gone(tmp_path):
    run = made_up(tmp_path / "a", 1)
    run.run.unlink()
    with LiveProgress(Progress(), run, torch.device("cpu")).track("x", 2) as advance:
        advance(1)
        assert not run.live.exists()
