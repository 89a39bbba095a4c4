"""Accuracy while learning: the mean over all tasks seen, after every task."""

from __future__ import annotations

from collections.abc import Sequence

from ness_cli.plots.task_lines import TaskLine, TaskLines


def accuracy_over_tasks(lines: Sequence[TaskLine]) -> TaskLines:
    """Return the picture of mean accuracies, percent, a line per experiment."""
    return TaskLines("Accuracy while learning", "mean over tasks seen, %", "tasks learned", lines)
