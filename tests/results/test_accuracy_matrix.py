from __future__ import annotations

import json

import pytest

from ness_cli.results.accuracy_matrix import AccuracyMatrix

# After task 2 the first task has gained, after task 3 it has lost.
FULL = AccuracyMatrix.of([[80.0], [85.0, 90.0], [70.0, 88.0, 60.0]])


def test_the_summaries_are_those_of_the_literature():
    assert FULL.acc == pytest.approx((70 + 88 + 60) / 3)
    assert FULL.bwt == pytest.approx(((70 - 80) + (88 - 90)) / 2)
    assert FULL.forgetting == pytest.approx(((85 - 70) + (90 - 88)) / 2)  # from the best, not 80
    assert FULL.learning_accuracy == pytest.approx((80 + 90 + 60) / 3)
    assert FULL.changes == (-10.0, -2.0, 0.0)


def test_a_gain_is_negative_forgetting():
    assert AccuracyMatrix.of([[50.0], [60.0, 70.0]]).forgetting == -10.0


def test_a_single_task_has_no_transfer():
    one = AccuracyMatrix.of([[80.0], None, None])
    assert (one.acc, one.bwt, one.forgetting, one.last) == (80.0, None, None, 1)


def test_nothing_measured_is_nothing():
    none = AccuracyMatrix.of([None, None])
    assert none.summary() == dict.fromkeys(("acc", "bwt", "forgetting", "learning_accuracy"), None)
    assert none.last == 0


def test_a_missing_row_leaves_out_what_needs_it():
    gap = AccuracyMatrix.of([[80.0], None, [70.0, 88.0, 60.0]])
    assert gap.acc == pytest.approx(218 / 3)
    assert gap.bwt is None
    assert gap.learning_accuracy is None
    assert gap.forgetting is None  # the best may have been in the missing row
    assert gap.as_json() == [[80.0, None, None], [None] * 3, [70.0, 88.0, 60.0]]
    json.dumps(gap.as_json(), allow_nan=False)


def test_tasks_whose_images_are_gone_are_left_out_of_the_means():
    gone = AccuracyMatrix.of([[80.0], [85.0, 90.0], [None, 88.0, 60.0]])
    assert gone.scored == (2, 3)
    assert gone.acc == pytest.approx((88 + 60) / 2)
    assert gone.bwt == pytest.approx(88 - 90)
    assert gone.forgetting == pytest.approx(90 - 88)
    assert gone.learning_accuracy == pytest.approx((80 + 90 + 60) / 3)
    assert gone.changes == (None, -2.0, 0.0)
    alone = AccuracyMatrix.of([[80.0], [None, 90.0]])
    assert (alone.acc, alone.bwt, alone.forgetting) == (90.0, None, None)
