from __future__ import annotations

import math

import pytest
from scipy.stats import binomtest

from ness_cli.results.margins import Margins, mean_half_width, wilson_half_width


@pytest.mark.parametrize("count", [1, 7, 40, 360, 10_000])
def test_half_widths_are_those_of_scipys_wilson_intervals(count):
    for right in {0, 1, count // 3, count - 1, count}:
        interval = binomtest(right, count).proportion_ci(0.95, method="wilson")
        half = 100 * (interval.high - interval.low) / 2
        assert wilson_half_width(100 * right / count, count) == pytest.approx(half, rel=1e-9)


def test_with_many_images_it_is_the_normal_standard_error_times_1_96():
    error = math.sqrt(0.7 * 0.3 / 1_000_000)
    assert wilson_half_width(70.0, 1_000_000) == pytest.approx(196 * error, rel=1e-4)


def test_the_mean_of_separate_test_sets_is_as_certain_as_all_images_together():
    one, four = wilson_half_width(80.0, 1000), wilson_half_width(80.0, 4000)
    assert mean_half_width([one] * 4, are_disjoint=True) == pytest.approx(four, rel=2e-3)
    assert mean_half_width([one] * 4, are_disjoint=False) == pytest.approx(one)


def test_without_counts_or_accuracies_there_is_no_margin():
    assert Margins.of([], [], are_disjoint=True) is None
    assert Margins.of([90.0, 80.0], [10, None], are_disjoint=True) is None
    found = Margins.of([90.0], [10], are_disjoint=True)
    assert found is not None
    assert found.tasks == (found.mean,)
