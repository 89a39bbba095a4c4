"""Limits on results: what keeps them, what does not, and what is told of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from ness_cli.errors import DamagedError, InputError, SettingsError
from ness_cli.results.accuracy_matrix import AccuracyMatrix
from ness_cli.results.gate_files import github_annotations, write_junit
from ness_cli.results.gates import Limits, Verdict, judge
from ness_cli.results.summary import groups

GOOD = [[90.0], [86.0, 80.0]]  # ACC 83, BWT -4, forgetting 4
BETTER = [[92.0], [90.0, 80.0]]  # ACC 85, BWT -2, forgetting 2


def _run(seed, rows, *, lr=0.1, num_tasks=2):
    record = {"preset": "p", "method": "m", "seed": seed, "stream_key": "k"}
    record["identity"] = {"seed": seed, "train.lr": lr}
    matrix = AccuracyMatrix.of([*rows, *[None] * (num_tasks - len(rows))])
    return SimpleNamespace(
        path=Path(f"runs/{lr}-{seed}"),
        record=record,
        task_incremental=matrix,
        num_done=len(rows),
        state=SimpleNamespace(num_tasks=num_tasks),
        results={},
    )


def _judged(limits, runs, left_out=()):
    return judge(limits, runs, groups(runs), left_out)


def _saved(path, *entries):
    names = ("acc", "bwt", "forgetting")
    found = [
        {"name": name, "tasks_done": tasks}
        | {metric: {"mean": mean} for metric, mean in zip(names, means, strict=True)}
        for name, tasks, means in entries
    ]
    path.write_text(json.dumps({"groups": found}))
    return path


@pytest.mark.parametrize(
    ("limits", "passes", "words"),
    [
        (Limits(min_acc=84), True, "ACC 84.00 is at 84 (--min-acc 84)"),
        (Limits(min_acc=84.5), False, "ACC 84.00 is 0.50 below 84.5"),
        (Limits(min_acc=84.004), False, "ACC 84.00 is 0.004 below 84.004"),
        (Limits(min_bwt=-3), True, "BWT -3.00 is at -3"),
        (Limits(min_bwt=-2), False, "BWT -3.00 is 1.00 below -2"),
        (Limits(max_forgetting=3), True, "forgetting 3.00 is at 3"),
        (Limits(max_forgetting=1.25), False, "forgetting 3.00 is 1.75 above 1.25"),
    ],
)
def test_the_mean_over_seeds_is_judged_and_the_amount_is_told(limits, passes, words):
    (verdict,) = _judged(limits, [_run(1, GOOD), _run(2, BETTER)])
    assert verdict.passed is passes
    assert words in str(verdict)


def test_rounding_of_a_mean_fails_no_gate():
    runs = [_run(1, GOOD), _run(2, BETTER)]
    limits = Limits(
        min_acc=math.nextafter(84, 85),
        min_bwt=math.nextafter(-3, 0),
        max_forgetting=math.nextafter(3, 2),
    )
    assert all(verdict.passed for verdict in _judged(limits, runs))


def test_every_group_is_judged_and_named_apart():
    verdicts = _judged(Limits(min_acc=84), [_run(1, GOOD, lr=0.1), _run(1, BETTER, lr=0.2)])
    assert [(v.subject, v.passed) for v in verdicts] == [
        ("p, m (lr=0.1)", False),
        ("p, m (lr=0.2)", True),
    ]


def test_of_seeds_that_have_not_come_as_far_nothing_is_judged_but_completeness():
    runs = [_run(1, GOOD), _run(2, [[20.0]])]
    (acc,) = _judged(Limits(min_acc=83), runs)
    assert acc.passed
    verdicts = _judged(Limits(require_complete=True), runs, ["c is left out: damaged"])
    assert [v.passed for v in verdicts] == [True, False, False]
    assert "1 of 2 tasks done" in verdicts[1].message
    assert "c is left out" in verdicts[2].message


@pytest.mark.parametrize("rows", [[], [[90.0]], [None, [float("nan"), float("nan")]]])
def test_what_is_missing_or_no_number_keeps_no_limit(rows):
    limits = Limits(min_acc=95.0, min_bwt=-100, max_forgetting=100)
    verdicts = _judged(limits, [_run(1, rows)])
    assert [v.passed for v in verdicts] == [False] * 3


@pytest.mark.parametrize(
    ("means", "tolerance", "failed"),
    [
        ((83, -4, 4), None, []),
        ((83.4, -4, 4), 0.5, []),
        ((83.6, -4, 4), 0.5, ["ACC"]),
        ((83, -3, 3), 0.5, ["BWT", "forgetting"]),
        ((10, -90, 90), None, []),
        ((83, None, 4), 5.0, ["BWT"]),
        ((float("nan"), -4, 4), 5.0, ["ACC"]),
    ],
)
def test_results_must_not_fall_short_of_a_baseline_by_more_than_the_tolerance(
    tmp_path, means, tolerance, failed
):
    saved = _saved(tmp_path / "b.json", ("p, m", 2, means))
    verdicts = _judged(Limits(baseline=saved, tolerance=tolerance), [_run(1, GOOD)])
    assert len(verdicts) == 3
    wrong = [v.message for v in verdicts if not v.passed]
    assert len(wrong) == len(failed)
    assert all(label in message for label, message in zip(failed, wrong, strict=True))


def test_groups_that_only_one_side_has_fail_and_so_do_other_numbers_of_tasks(tmp_path):
    saved = _saved(
        tmp_path / "b.json", ("p, m (lr=0.1)", 3, (83, -4, 4)), ("p, other", 2, (83, -4, 4))
    )
    runs = [_run(1, GOOD, lr=0.1), _run(1, GOOD, lr=0.2)]
    verdicts = _judged(Limits(baseline=saved), runs)
    assert [v.passed for v in verdicts] == [False] * 3
    messages = " / ".join(map(str, verdicts))
    assert "2 tasks evaluated, 3 in the baseline" in messages
    assert "p, m (lr=0.2): the baseline has no such group" in messages
    assert "p, other: the baseline has this group, and no run here" in messages


def test_of_a_single_task_a_baseline_compares_the_accuracy_alone(tmp_path):
    saved = _saved(tmp_path / "b.json", ("p, m", 1, (90, None, None)))
    (verdict,) = _judged(Limits(baseline=saved), [_run(1, [[90.0]])])
    assert verdict.passed


def test_a_baseline_that_is_none_is_refused(tmp_path):
    runs = [_run(1, GOOD)]
    with pytest.raises(InputError, match=r"b\.json is missing"):
        _judged(Limits(baseline=tmp_path / "b.json"), runs)
    for content in ("{}", '{"groups": [{"name": "x"}]}', "[]", "{"):
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(DamagedError, match=r"b\.json"):
            _judged(Limits(baseline=tmp_path / "b.json"), runs)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"min_acc": 0.9}, "less than one percent"),
        ({"min_acc": float("nan")}, "--min-acc: nan"),
        ({"max_forgetting": 101}, "--max-forgetting: 101"),
        ({"tolerance": 1}, "no --baseline"),
        ({"tolerance": -1, "baseline": Path("b")}, "--tolerance: -1"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused(limits, words):
    with pytest.raises(SettingsError, match=words):
        Limits(**limits)


VERDICTS = [
    Verdict("a, b: <c>", "--min-acc 90", False, "100 %\nis & 1 below\x00"),
    Verdict("d", "--require-complete", True, "2 of 2 tasks done"),
]


def test_junit_has_a_case_for_every_gate_and_reads_back_whatever_it_is_named(tmp_path):
    write_junit(VERDICTS, tmp_path / "sub" / "gates.xml")
    (suite,) = ElementTree.parse(tmp_path / "sub" / "gates.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    bad, good = suite
    assert bad.get("classname") == "a, b: <c>"
    assert bad.find("failure").get("message") == r"100 %\nis & 1 below\x00"
    assert good.find("failure") is None


def test_a_junit_case_keeps_its_name_whatever_was_measured(tmp_path):
    saved = _saved(tmp_path / "b.json", ("p, m", 2, (83, -4, 4)))
    limits = Limits(min_acc=84, baseline=saved, require_complete=True)
    found = []
    for rows in (GOOD, BETTER):
        write_junit(_judged(limits, [_run(1, rows)]), tmp_path / "gates.xml")
        (suite,) = ElementTree.parse(tmp_path / "gates.xml").getroot()
        found.append([(case.get("classname"), case.get("name")) for case in suite])
    assert found[0] == found[1]
    assert len(set(found[0])) == len(found[0]) == 5
    assert "ACC 85.00 is 1.00 above 84" in suite[0].find("system-out").text


def test_github_gets_one_escaped_line_for_every_failed_gate():
    (line,) = github_annotations(VERDICTS)
    assert line == (
        r"::error title=a%2C b%3A <c>::a, b: <c>: 100 %25\nis & 1 below\x00 (--min-acc 90)"
    )
    assert github_annotations(VERDICTS[1:]) == ["::notice title=ness report::1 of 1 gates passed"]
