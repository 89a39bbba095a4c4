from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ness_cli.results.accuracy_matrix import AccuracyMatrix
from ness_cli.results.summary import Group, Spread, distinct_names, groups


def _group(method="ness", **identity):
    record = {"preset": "p", "method": method, "identity": {"seed": 1, **identity}}
    return Group((SimpleNamespace(record=record),))


def test_groups_of_one_name_say_in_which_settings_they_differ():
    found = [
        _group(**{"train.lr": 0.1, "train.epochs": 3}),
        _group(**{"train.lr": 0.2, "train.epochs": 3}),
        _group("gpm", **{"train.lr": 0.3, "train.epochs": 4}),
    ]
    assert distinct_names(found) == ["p, ness (lr=0.1)", "p, ness (lr=0.2)", "p, gpm"]


def test_a_setting_that_only_one_group_has_is_named_too():
    found = [_group(**{"methods.ness.gamma": 2.0}), _group()]
    assert distinct_names(found) == ["p, ness (gamma=2.0)", "p, ness (gamma=null)"]


def _run(path, seed, rows, sha="a"):
    record = {"preset": "p", "method": "m", "seed": seed, "stream_key": "k"}
    record["identity"] = {"seed": seed, "train.lr": 0.1}
    matrix = AccuracyMatrix.of(rows)
    results = {f"row {t}": row for t, row in enumerate(matrix.rows)} | {"model": sha}
    return SimpleNamespace(path=Path(path), record=record, task_incremental=matrix, results=results)


def test_a_run_and_its_copy_count_once_and_both_are_named():
    rows = [[90.0], [80.0, 90.0]]
    (group,) = groups(
        [_run("a", 1, rows), _run("copy", 1, rows), _run("b", 2, [[90.0], [70.0] * 2])]
    )
    assert group.seeds == [1, 2]
    assert group.spread("acc").mean == pytest.approx((85 + 70) / 2)
    (repeat,) = group.repeats
    assert repeat.is_equal
    assert "a and copy are both seed 1" in str(repeat)
    assert "copies" in str(repeat)
    assert group.as_json()["repeats"] == [{"run": "copy", "of": "a", "equal": True}]


def test_a_copy_alone_with_its_run_has_no_deviation():
    (group,) = groups([_run("a", 1, [[90.0]]), _run("copy", 1, [[90.0]])])
    assert str(group.spread("acc")) == "90.00"


@pytest.mark.parametrize("other", [_run("b", 1, [[90.0]], "other"), _run("b", 1, [[89.0]])])
def test_one_seed_with_other_results_is_no_independent_seed_either(other):
    (group,) = groups([_run("a", 1, [[90.0]]), other])
    assert group.seeds == [1]
    (repeat,) = group.repeats
    assert not repeat.is_equal
    assert "no independent seeds" in str(repeat)
    assert "only a is counted" in str(repeat)


def test_of_one_seed_the_run_that_has_come_furthest_counts():
    (group,) = groups([_run("a", 1, [[90.0], None]), _run("b", 1, [[90.0], [80.0, 90.0]])])
    assert [str(run.path) for run in group.independent] == ["b"]
    assert (group.seeds, group.seeds_behind) == ([1], [])


def test_a_mean_of_nearly_nothing_has_no_minus():
    assert str(Spread.of([-0.001, -0.003])) == "0.00 ± 0.00"
