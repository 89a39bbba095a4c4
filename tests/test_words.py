from __future__ import annotations

import pytest

from ness_cli.words import counted, few, fixed, ranges, tasks_in_words


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 tasks"), (1, "1 task"), (2, "2 tasks"), (11, "11 tasks")]
)
def test_one_is_singular_and_any_other_number_plural(number, shown):
    assert counted(number, "task") == shown


def test_an_irregular_plural_is_given():
    assert [counted(n, "class", "classes") for n in (1, 3)] == ["1 class", "3 classes"]


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (-0.004, "0.00", "0.00"),
        (-0.0, "0.00", "0.00"),
        (0.0, "0.00", "0.00"),
        (0.004, "0.00", "0.00"),
        (-0.006, "-0.01", "-0.01"),
        (1.25, "1.25", "+1.25"),
        (-11.0, "-11.00", "-11.00"),
    ],
)
def test_zero_has_no_sign(value, plain, signed):
    assert fixed(value) == plain
    assert fixed(value, signed=True) == signed


def test_the_decimals_are_as_many_as_asked_for():
    assert (fixed(-0.04, 1), fixed(-0.06, 1), fixed(2, 0)) == ("0.0", "-0.1", "2")


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [([], ""), ([4], "4"), ([1, 2, 3, 5], "1 to 3, 5"), (range(2, 4), "2 to 3")],
)
def test_numbers_in_a_row_are_a_range(numbers, shown):
    assert ranges(numbers) == shown


def test_tasks_are_named_with_their_numbers():
    assert (tasks_in_words([4]), tasks_in_words([1, 2])) == ("task 4", "tasks 1 to 2")


def test_of_many_names_the_first_are_named_and_the_rest_counted():
    assert few(["a", "b"], 2) == "a, b"
    assert few(["a", "b", "c", "d"], 2) == "a, b and 2 more"
