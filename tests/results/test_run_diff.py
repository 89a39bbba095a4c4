"""``ness diff`` against numpy on the files themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_run import made_up
from scipy.stats import ttest_rel
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.errors import InputError, SettingsError
from ness_cli.stages.diff import diff

SIZE = 4


def _run(folder: Path, seed: int, number: int, **more) -> Path:
    full = np.random.default_rng(number).uniform(20, 100, (SIZE, SIZE))
    rows = [list(full[t, : t + 1]) for t in range(SIZE)]
    return made_up(folder, seed, rows=rows, order=range(SIZE), **more)


def _row(run: Path, task: int) -> np.ndarray:
    record = json.loads((run / f"task-{task:02d}" / "accuracy.json").read_text())
    return np.array(record["task_incremental"])


def test_two_runs_differ_in_a_setting_and_in_what_came_of_it(tmp_path):
    a = _run(tmp_path / "a", 1, 1, settings={"train.lr": 0.1, "train.epochs": 5})
    b = _run(tmp_path / "b", 1, 2, settings={"train.lr": 0.2, "train.epochs": 5})
    found = diff(a, b).document()
    assert found["settings"] == {"train.lr": {"a": "0.1", "b": "0.2"}}
    own = found["metrics"]["acc"]
    accs = [_row(run, SIZE).mean() for run in (a, b)]
    assert (own["a"]["mean"], own["b"]["mean"]) == pytest.approx(accs)
    gap = {"mean": pytest.approx(accs[1] - accs[0]), "low": None, "high": None}
    assert own["difference"] == gap
    # 4000 s and 10^9 bytes of training and of building, and of every task.
    assert found["metrics"]["train_seconds"]["a"]["mean"] == 4000 * SIZE
    assert found["metrics"]["bytes_written"]["b"]["mean"] == 2 * SIZE * 10**9


def test_differences_are_paired_by_seed(tmp_path):
    for seed in (1, 2, 3):
        _run(tmp_path / "a" / str(seed), seed, seed)
        _run(tmp_path / "b" / str(seed), seed, 10 * seed, method="gpm")
    _run(tmp_path / "b" / "4", 4, 99, method="gpm")
    found = diff(tmp_path / "a", tmp_path / "b").document()
    assert found["paired_seeds"] == [1, 2, 3]
    accs = [[_row(tmp_path / n / s, SIZE).mean() for s in "123"] for n in "ba"]
    interval = ttest_rel(*accs).confidence_interval(0.95)
    own = found["metrics"]["acc"]["difference"]
    assert (own["low"], own["high"]) == pytest.approx((interval.low, interval.high))
    assert found["settings"]["method.name"] == {"a": "ness", "b": "gpm"}
    assert found["settings"]["seed"] == {"a": "1, 2, 3", "b": "1, 2, 3, 4"}


def test_runs_that_have_come_unequally_far_are_compared_after_the_last_task_of_both(tmp_path):
    a, b = _run(tmp_path / "a", 1, 1), _run(tmp_path / "b", 1, 2, method="gpm")
    for task in (3, 4):
        (b / f"task-{task:02d}" / "accuracy.json").unlink()
    found = diff(a, b).document()
    expected = [_row(run, 2).mean() for run in (a, b)]
    own = found["metrics"]["acc"]
    assert (own["a"]["mean"], own["b"]["mean"]) == pytest.approx(expected)
    assert found["metrics"]["train_seconds"]["a"]["mean"] == 8000
    assert any("after 2 tasks" in note for note in found["notes"])


def test_options_of_one_method_alone_are_shown_where_they_were_typed(tmp_path):
    a = _run(tmp_path / "a", 1, 1, eps1=0.25, eps2=0.5)
    b = _run(tmp_path / "b", 1, 1, method="gpm")
    record = json.loads((a / "run.json").read_text())
    origins = {"methods.ness.eps1": "command line", "methods.ness.eps2": "default"}
    (a / "run.json").write_text(json.dumps({**record, "origins": origins}))
    found = diff(a, b).document()["settings"]
    assert found["methods.ness.eps1"] == {"a": "0.25", "b": None}
    assert "methods.ness.eps2" not in found


def test_other_images_are_said_to_be_no_comparison(tmp_path):
    a = _run(tmp_path / "a", 1, 1)
    b = _run(tmp_path / "b", 1, 1, settings={"data.limit_per_class": 5})
    assert "they learn other tasks or images: accuracies are not comparable" in diff(a, b).notes


def test_what_cannot_be_compared_is_refused(tmp_path):
    a = _run(tmp_path / "a", 1, 1)
    empty = _run(tmp_path / "empty", 1, 1)
    for path in empty.glob("task-*/accuracy.json"):
        path.unlink()
    with pytest.raises(InputError, match="no task is evaluated") as caught:
        diff(a, empty)
    assert caught.value.remedy == f"run: ness evaluate {empty}"
    (empty / "task-01" / "train.json").unlink()
    with pytest.raises(InputError, match="no task is evaluated") as caught:
        diff(a, empty)
    assert caught.value.remedy == f"run: ness train-task {empty}"
    _run(tmp_path / "many" / "x", 1, 1)
    _run(tmp_path / "many" / "y", 1, 1, method="gpm")
    with pytest.raises(SettingsError, match="2 experiments"):
        diff(a, tmp_path / "many")


def test_the_command_fits_80_columns(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    parent = tmp_path / "a-folder-with-a-long-name-that-fills-most-of-a-line"
    for seed in (1, 2):
        _run(parent / "a" / str(seed), seed, seed)
        _run(parent / "b" / str(seed), seed, 7 * seed, method="gpm")
    done = CliRunner().invoke(app, ["diff", str(parent / "a"), str(parent / "b")])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    (acc,) = [line for line in lines if line.startswith("ACC, %")]
    assert acc.count("±") == 3
