"""What became of every task since it was learned: forgetting is a fall below zero."""

from __future__ import annotations

from collections.abc import Sequence

from ness_cli.plots.task_lines import TaskLine, TaskLines


def change_per_task(lines: Sequence[TaskLine]) -> TaskLines:
    """Return the picture of accuracies at the end less those when learned, points."""
    title = "Change of every task since it was learned"
    return TaskLines(title, "change of accuracy, points", "task", lines, is_change=True)
