"""Dealing the classes of a data set to tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ness_cli import seeding
from ness_cli.errors import SettingsError, did_you_mean
from ness_cli.settings.sources.base import ClassSplitSettings


def order_classes(names: Sequence[str], options: ClassSplitSettings) -> list[str]:
    """Return class names in the order in which they are dealt to tasks.

    Args:
        names: All classes, any order.
        options: ``class_order`` and ``split_seed``.

    Raises:
        SettingsError: If ``class_order`` names a class that is not there, or one twice.
    """
    ordered = sorted(names)
    if options.class_order == "sorted":
        return ordered
    if options.class_order == "seeded":
        generator = seeding.generator(options.split_seed, "class-order")
        positions = torch.randperm(len(ordered), generator=generator).tolist()
        return [ordered[position] for position in positions]
    for name in options.class_order:
        if name not in ordered:
            raise SettingsError(
                f"data.class_order: there is no class {name!r}{did_you_mean(name, ordered)}"
            )
    if len(set(options.class_order)) < len(options.class_order):
        twice = next(n for n in options.class_order if options.class_order.count(n) > 1)
        raise SettingsError(f"data.class_order: the class {twice!r} stands twice")
    return list(options.class_order)


def cut(names: Sequence[str], options: ClassSplitSettings) -> list[tuple[str, ...]]:
    """Return the classes of every task.

    Args:
        names: All classes, any order.
        options: How many per task, how many tasks, in what order.

    Raises:
        SettingsError: If the classes do not fill the tasks asked for, or some would be left over
            without ``num_tasks`` saying so.
    """
    ordered = order_classes(names, options)
    if isinstance(options.classes_per_task, int):
        each = options.classes_per_task
        if each < 1:
            raise SettingsError(f"data.classes_per_task: {each} is less than 1")
        num_tasks = options.num_tasks or len(ordered) // each
        if options.num_tasks is None and len(ordered) % each:
            raise SettingsError(
                f"data.classes_per_task: {len(ordered)} classes in tasks of {each} leave "
                f"{len(ordered) % each} over",
                "give a list with one number per task, or set data.num_tasks",
            )
        sizes = [each] * num_tasks
    else:
        sizes = list(options.classes_per_task)[: options.num_tasks]
        if options.num_tasks is not None and len(sizes) < options.num_tasks:
            raise SettingsError(
                f"data.num_tasks: {options.num_tasks} tasks, but data.classes_per_task lists "
                f"{len(sizes)}"
            )
        if min(sizes) < 1:
            raise SettingsError(f"data.classes_per_task: {min(sizes)} is less than 1")
    if sum(sizes) > len(ordered) or not sizes:
        raise SettingsError(
            f"data.num_tasks: {len(sizes)} tasks need {sum(sizes)} classes, "
            f"there are {len(ordered)}",
            "ask for fewer tasks or fewer classes per task",
        )
    tasks, start = [], 0
    for size in sizes:
        tasks.append(tuple(ordered[start : start + size]))
        start += size
    return tasks


def choose(count: int, limit: int | None, *, seed: int, purpose: str) -> list[int]:
    """Return at most ``limit`` of ``count`` positions, chosen by seed, in ascending order."""
    if limit is None or count <= limit:
        return list(range(count))
    generator = seeding.generator(seed, purpose)
    return sorted(torch.randperm(count, generator=generator)[:limit].tolist())
