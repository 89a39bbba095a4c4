"""Paired comparison against scipy's paired t test, on files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_run import made_up
from scipy.stats import ttest_rel

from ness_cli.errors import SettingsError
from ness_cli.results.paired import Difference
from ness_cli.results.table import Table
from ness_cli.stages.report import report

SIZE = 3


def _run(folder: Path, seed: int, method: str, number: int, **more) -> Path:
    full = np.random.default_rng(number).uniform(20, 100, (SIZE, SIZE))
    rows = [list(full[t, : t + 1]) for t in range(SIZE)]
    return made_up(folder, seed, method=method, rows=rows, order=range(SIZE), **more)


def _acc(run: Path) -> float:
    row = json.loads((run / f"task-{SIZE:02d}" / "accuracy.json").read_text())["task_incremental"]
    return float(np.mean(row))


def _paired(*paths: Path, against: Path) -> list[dict]:
    return report(paths, against=against).document()["paired"]["groups"]


def test_the_interval_is_that_of_the_paired_t_test(tmp_path):
    mine = {s: _run(tmp_path / "gpm" / f"{s}", s, "gpm", s) for s in (1, 2, 3, 5)}
    base = {s: _run(tmp_path / "ft" / f"{s}", s, "finetune", 10 * s) for s in (2, 1, 3, 4)}
    (found,) = _paired(tmp_path, against=tmp_path / "ft")
    assert found["seeds"] == [1, 2, 3]
    pairs = [(_acc(mine[s]), _acc(base[s])) for s in (1, 2, 3)]
    interval = ttest_rel(*zip(*pairs, strict=True)).confidence_interval(0.95)
    own = found["differences"]["acc"]
    assert (own["low"], own["high"]) == pytest.approx((interval.low, interval.high))
    assert own["mean"] == pytest.approx(np.mean([a - b for a, b in pairs]))


def test_of_a_single_common_seed_there_is_no_interval(tmp_path):
    a, b = _run(tmp_path / "a", 1, "gpm", 1), _run(tmp_path / "b", 1, "finetune", 2)
    found = report([a], against=b)
    own = found.document()["paired"]["groups"][0]["differences"]["acc"]
    assert own == {"mean": pytest.approx(_acc(a) - _acc(b)), "low": None, "high": None}
    (table,) = [p for p in found.parts(80) if isinstance(p, Table) and "Difference" in p.title]
    assert "of a single common seed there is no interval" in table.notes


def test_runs_that_are_not_comparable_are_not_compared(tmp_path):
    base = _run(tmp_path / "base", 1, "finetune", 2)
    _run(tmp_path / "seed", 2, "gpm", 1)
    _run(tmp_path / "images", 1, "hat", 1, settings={"data.limit_per_class": 5})
    behind = _run(tmp_path / "behind", 1, "ewc", 1)
    (behind / f"task-{SIZE:02d}" / "accuracy.json").unlink()
    found = {each["name"]: each for each in _paired(tmp_path, against=base)}
    notes = {name: each["note"] for name, each in found.items()}
    far = "no seed in common that has come as far"
    assert notes == {"mine, gpm": far, "mine, ewc": far, "mine, hat": "other images or tasks"}
    assert all(each["differences"] == {} for each in found.values())


def test_what_others_are_compared_with_is_one_experiment(tmp_path):
    _run(tmp_path / "a", 1, "gpm", 1)
    _run(tmp_path / "b", 1, "finetune", 2)
    with pytest.raises(SettingsError, match="runs of 2 experiments"):
        report([tmp_path / "a"], against=tmp_path)


@pytest.mark.parametrize(
    ("values", "shown"),
    [([], "-"), ([None, 1.0], "-"), ([1.0], "+1.00"), ([-1.0, -1.0], "-1.00 ± 0.00")],
)
def test_a_difference_in_words(values, shown):
    assert str(Difference.of(values)) == shown
