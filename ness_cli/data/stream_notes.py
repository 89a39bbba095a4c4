"""What a user should know of a stream before training on it, in plain sentences with numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ness_cli.words import few

_UNEVEN = 3.0  # images of the largest class to those of the smallest
_FEW_TESTS = 20  # images: each counts 5 points of a task's accuracy
_MOST = 20  # names that are given


def stream_notes(manifest: Mapping[str, Any]) -> list[str]:
    """Return sentences on left out files, class counts, imbalance, and tasks that measure little.

    Args:
        manifest: What ``plan`` or ``prepare`` returned; one from before class counts were part of
            it has little to say.
    """
    found = list(_left_out(manifest.get("left_out", ())))
    tasks = [task for task in manifest["tasks"] if "class_counts" in task]
    if tasks:
        # Where labels are shared, every task has the same classes.
        found += _class_counts(tasks[:1] if manifest["shared_labels"] else tasks)
    found += _small_tasks(manifest["tasks"])
    return found


def _left_out(names: Sequence[str]) -> Iterator[str]:
    if names:
        many = (
            "1 file cannot be read and is"
            if len(names) == 1
            else (f"{len(names)} files cannot be read and are")
        )
        yield f"{many} left out, as data.on_error=skip asks: {few(names, _MOST)}"


def _class_counts(tasks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield how many images the classes have, and that they differ much if they do."""
    counts = [
        (train, test, name)
        for task in tasks
        for train, test, name in zip(
            task["class_counts"]["train"],
            task["class_counts"]["test"],
            task["classes"],
            strict=True,
        )
    ]
    train, test = ([count[split] for count in counts] for split in (0, 1))
    yield f"{len(counts)} classes with {_range(train)} training and {_range(test)} test images each"
    (few, _, small), (many, _, large) = min(counts), max(counts)
    if many >= _UNEVEN * few:
        yield (
            f"classes are uneven: {large!r} has {many} training images, {small!r} has {few};"
            f" accuracy favours the large ones (data.limit_per_class={few} would even them out)"
        )


def _small_tasks(tasks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield that there is one task, or that tasks have one class only, or few test images."""
    if [task["number"] for task in tasks] == [1]:
        yield "there is one task, so there is nothing to forget; see data.classes_per_task"
    alone = [f"{task['number']} ({task['classes'][0]})" for task in tasks if _is_alone(task)]
    if alone:
        yield (
            f"tasks with one class: {few(alone, _MOST)}; where the task is known their accuracy is"
            " 100 % whatever was learned; see data.classes_per_task"
        )
    fewest = min(tasks, key=lambda task: int(task["splits"]["test"]["count"]), default=None)
    if fewest is not None and (count := fewest["splits"]["test"]["count"]) < _FEW_TESTS:
        yield (
            f"task {fewest['number']} has {count} test images: each of them is {100 / count:.3g}"
            " points of its accuracy"
        )


def _is_alone(task: Mapping[str, Any]) -> bool:
    return len(task["classes"]) == 1


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
