from __future__ import annotations

import io

import pytest
from rich.console import Console

from ness_cli.results.accuracy_matrix import AccuracyMatrix
from ness_cli.results.number_formats import human_bytes, human_count, human_seconds, percent
from ness_cli.results.summary import Spread
from ness_cli.results.tables import accuracy_table


def _rendered(renderable, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("num_tasks", [1, 2, 10, 20, 40])
def test_accuracies_fit_whatever_the_number_of_tasks(width, num_tasks):
    matrix = AccuracyMatrix.of([[100.0] * t for t in range(1, num_tasks + 1)])
    text = _rendered(accuracy_table(matrix, "runs/a: ness", width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("100.0") >= num_tasks


def test_a_row_that_is_missing_shows_as_a_dash():
    text = _rendered(accuracy_table(AccuracyMatrix.of([None, [1.0, 2.0]]), "t", 80), 80)
    assert "-" in text.splitlines()[2]


@pytest.mark.parametrize(
    ("values", "shown"),
    [([], "-"), ([None], "-"), ([1.0, None], "-"), ([1.5], "1.50"), ([1.0, 3.0], "2.00 ± 1.41")],
)
def test_a_spread_is_mean_and_sample_standard_deviation(values, shown):
    assert str(Spread.of(values)) == shown


def test_units():
    assert [human_bytes(n) for n in (0, 999, 1000, 2_500_000, 3 * 10**12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.5 MB",
        "3000.0 GB",
    ]
    assert [human_count(n) for n in (0, 999, 1000, 999_960, 2_500_000, 10**9)] == [
        "0",
        "999",
        "1.0 k",
        "1.0 M",
        "2.5 M",
        "1000.0 M",
    ]
    assert [human_seconds(s) for s in (0, 59.94, 60, 3599, 3660)] == [
        "0.0 s",
        "59.9 s",
        "1 m 00 s",
        "59 m 59 s",
        "1 h 01 m",
    ]
    assert (percent(None), percent(1.234), percent(-0.001)) == ("-", "1.23", "0.00")
    assert (human_bytes(999_990), human_seconds(59.97)) == ("1.0 MB", "1 m 00 s")
