"""Verdicts against numbers worked out by hand."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace

import pytest
from rich.console import Console

from ness_cli.results.accuracy_matrix import AccuracyMatrix
from ness_cli.results.reproduction import compare
from ness_cli.results.summary import Group
from ness_cli.settings.reproduction import About


def _run(seed, acc, bwt=0.0):
    # Two tasks; after the second both are at `acc`, the first was learned at acc - bwt.
    matrix = AccuracyMatrix.of([[acc - bwt], [acc, acc]])
    return SimpleNamespace(
        record={"seed": seed, "preset": "p", "method": "m"}, task_incremental=matrix
    )


def _about(**published):
    values = {"acc": 70.0, "acc_std": 0.0, "bwt": 0.0, "bwt_std": 0.0, "source": "here"}
    return About.model_validate({"published": {**values, **published}})


def _verdicts(accs, about=None, bwts=None):
    runs = [
        _run(s, a, b) for s, (a, b) in enumerate(zip(accs, bwts or [0.0] * len(accs), strict=True))
    ]
    return compare(Group(tuple(runs)), about or _about(), num_tasks=2)


def test_several_seeds_pass_within_one_point_and_fall_short_below():
    assert _verdicts([69.0, 69.0]).verdict == "pass"
    short = _verdicts([68.9, 68.9])
    assert short.verdict == "falls short"
    assert short.falls_short
    assert short.comparisons[0].difference == pytest.approx(-1.1)


def test_what_lies_above_the_published_value_by_more_than_allowed_is_better():
    better = _verdicts([71.1, 71.1], _about(bwt=None))
    assert better.verdict == "better"
    assert not better.falls_short
    assert better.as_json()["comparisons"][0]["verdict"] == "better"
    assert _verdicts([73.1], _about(bwt=None)).verdict == "better"
    # One metric better and the other as published: nothing to boast of as a whole.
    assert _verdicts([71.1, 71.1]).verdict == "pass"
    assert _verdicts([71.1, 71.1], bwts=[-1.5, -1.5]).verdict == "falls short"
    assert _verdicts([70.0, 70.0], bwts=[1.5, 1.5]).comparisons[1].verdict == "better"


def test_twice_the_standard_error_of_the_difference_counts_where_it_is_more():
    # Ours: 68, 72 -> mean 70, sample deviation sqrt(8); theirs 3 over 9 seeds.
    accs = [68.0, 72.0]
    about = _about(acc_std=3.0, seeds=9, acc=73.0)
    allowed = 2 * math.sqrt(8 / 2 + 9 / 9)
    result = _verdicts(accs, about)
    assert result.comparisons[0].allowed == pytest.approx(allowed)
    assert result.comparisons[0].verdict == "pass"


def test_a_single_seed_is_consistent_within_three_points():
    assert _verdicts([72.9]).verdict == "consistent"
    assert _verdicts([67.1]).verdict == "consistent"
    assert _verdicts([66.9]).verdict == "falls short"


def test_bwt_counts_too():
    assert _verdicts([70.0, 70.0], bwts=[-1.5, -1.5]).verdict == "falls short"
    assert _verdicts([70.0, 70.0], _about(bwt=None), bwts=[-9.0, -9.0]).verdict == "pass"


def test_what_is_not_comparable_is_not_judged():
    result = _verdicts([10.0, 10.0], _about(not_comparable="other data"))
    assert result.verdict == "not comparable"
    assert not result.falls_short
    assert "other data" in result.note


def test_runs_that_stopped_before_the_end_do_not_count():
    runs = (_run(1, 70.0), _run(2, 70.0))
    assert compare(Group(runs), _about(), num_tasks=3).verdict == "incomplete"
    assert compare(Group(runs), About(), num_tasks=2).verdict == "not compared"


def test_one_seed_twice_is_a_single_seed():
    runs = (_run(1, 72.0), _run(1, 72.0))
    twice = compare(Group(runs), _about(), num_tasks=2)
    assert twice.seeds == (1,)
    assert twice.verdict == "consistent"
    assert twice.comparisons[0].measured.std is None


def test_a_difference_of_nothing_has_no_sign():
    table = Console(file=io.StringIO(), width=100)
    table.print(_verdicts([70.0 - 1e-9, 70.0 - 1e-9]).table())
    assert "-0.00" not in table.file.getvalue()


def test_the_tolerance_is_the_presets():
    about = _about(acc=72.5).model_copy(update={"acc_tolerance": 3.0})
    assert _verdicts([70.0, 70.0], about).verdict == "pass"
