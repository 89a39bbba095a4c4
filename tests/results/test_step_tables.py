"""Tables of single steps, from records that are made up."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ness_cli.results.margins import wilson_half_width
from ness_cli.results.step_tables import step_line, step_table
from ness_cli.results.task_facts import TaskFacts

TASKS = [TaskFacts(1, ("daisy", "rose"), 40), TaskFacts(2, ("oak", "elm"), 10)]


def _shown(record, tasks) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(step_table("evaluate", {"task": 2, **record}, tasks))
    return console.file.getvalue().splitlines()


def test_accuracies_of_an_evaluation_have_names_and_margins():
    record = {"task_incremental": [97.5, 80.0], "class_incremental": [50.0, 40.0]}
    title, head, first, second, note = _shown(record, TASKS)
    assert title == "After task 2: test accuracy, %"
    assert head.split() == ["task", "name", "task-incremental", "±95%", "class-incremental"]
    assert first.split() == ["1", "daisy,", "rose", "97.50", _half(97.5, 40), "50.00"]
    assert second.split() == ["2", "oak,", "elm", "80.00", _half(80.0, 10), "40.00"]
    assert note.startswith("±95%: half of the 95 % Wilson interval")


def _half(accuracy: float, count: int) -> str:
    return f"{wilson_half_width(accuracy, count):.2f}"


def test_margins_are_of_test_images_whatever_was_scored():
    _, head, first, *_ = _shown({"class_incremental": [50.0, 40.0], "validation": [9.0] * 2}, TASKS)
    assert head.split()[2:] == ["class-incremental", "±95%", "validation"]
    assert first.split()[3:] == ["50.00", _half(50.0, 40), "9.00"]


def test_without_a_description_of_the_tasks_there_are_numbers_only():
    lines = _shown({"task_incremental": [97.5, 80.0]}, [TaskFacts(1), TaskFacts(2)])
    assert [line.split() for line in lines[1:]] == [
        *(["task", "task-incremental"], ["1", "97.50"], ["2", "80.00"])
    ]


@pytest.mark.parametrize("stored", ["fisher", "nothing"])
def test_a_method_that_opens_no_directions_says_what_it_keeps(stored):
    record = {"task": 1, "layers": [], "stored": stored}
    console = Console(file=io.StringIO(), width=80)
    console.print(step_table("build", record, TASKS))
    assert f"this method keeps {stored}" in console.file.getvalue()
    assert step_line("build", 1, record, 2) == f"task 1/2 built: this method keeps {stored}"
