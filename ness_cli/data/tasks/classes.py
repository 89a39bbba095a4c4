"""Deal the classes of one data set to tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch

from ness_cli import seeding
from ness_cli.errors import SettingsError, did_you_mean
from ness_cli.settings.sources.base import DatasetSettings
from ness_cli.words import counted, few

_MOST_LISTED = 12  # tasks of an example


def assigned_classes(classes: Sequence[str], options: DatasetSettings) -> list[tuple[str, ...]]:
    """Return the classes of every task, disjoint, in the order of the settings.

    Without ``num_tasks`` every class is used; with it, those that come after the last task are not.

    Args:
        classes: Names of all classes, in the order of their labels.
        options: ``classes_per_task``, ``num_tasks``, ``class_order`` and ``split_seed``.

    Raises:
        SettingsError: If classes would be left over or are too few, or the order names one that
            does not exist or names one twice.
    """
    ordered = in_order(list(classes), options)
    sizes = _sizes(len(ordered), options)
    ends = list(accumulate(sizes))
    return [tuple(ordered[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def in_order(classes: list[str], options: DatasetSettings) -> list[str]:
    """Return the classes in the order of the settings; errors as in ``assigned_classes``."""
    order = options.class_order
    if order == "sorted":
        return classes
    if order == "seeded":
        generator = seeding.generator(options.stream_seed, "class-order")
        return [classes[i] for i in torch.randperm(len(classes), generator=generator).tolist()]
    if order == "numpy-seeded":
        legacy = np.random.RandomState(options.stream_seed % 2**32)  # it takes no larger seeds
        return [classes[i] for i in legacy.permutation(len(classes))]
    for name, times in Counter(order).items():
        if name not in classes:
            raise SettingsError(
                f"data.class_order: there is no class {name!r}{did_you_mean(name, classes)}",
                f"the classes are {few(classes)}",
            )
        if times > 1:
            raise SettingsError(
                f"data.class_order: class {name!r} is named {times} times", "name it once"
            )
    return list(order)


def _sizes(num_classes: int, options: DatasetSettings) -> list[int]:
    per_task, num_tasks = options.classes_per_task, options.num_tasks
    if isinstance(per_task, int):
        return _equal_sizes(num_classes, per_task, num_tasks)
    sizes = list(per_task)
    if num_tasks is not None and num_tasks > len(sizes):
        raise SettingsError(
            f"data.num_tasks: {counted(num_tasks, 'task')}, but data.classes_per_task lists"
            f" {len(sizes)}",
            "give one number of classes per task",
        )
    sizes = sizes[:num_tasks]
    total = sum(sizes)
    if total > num_classes or (total < num_classes and num_tasks is None):
        raise SettingsError(
            f"data.classes_per_task: {sizes} adds up to {total}, and the data has"
            f" {_classes(num_classes)}",
            "make the list add up"
            + (f", or set data.num_tasks={len(sizes)}" if total < num_classes else ""),
        )
    return sizes


def _equal_sizes(num_classes: int, per_task: int, num_tasks: int | None) -> list[int]:
    full, left = divmod(num_classes, per_task)
    if full == 0:
        raise SettingsError(
            f"data.classes_per_task: {_classes(per_task)} per task, but the data has {num_classes}",
            f"set data.classes_per_task to {num_classes} or less",
        )
    if num_tasks is None and left:
        example = _sizes_that_fit(num_classes, full)
        raise SettingsError(
            f"data.classes_per_task: {full} x {per_task} classes leave {left} of"
            f" {num_classes} over",
            f"give a list that adds up to {num_classes}{example and f', as {example}'}, or set"
            f" data.num_tasks={full}",
        )
    if num_tasks is not None and num_tasks > full:
        raise SettingsError(
            f"data.num_tasks: {counted(num_tasks, 'task')} of {_classes(per_task)}, but"
            f" {_classes(num_classes)} make {full}",
            f"set data.num_tasks to {full} or less",
        )
    return [per_task] * (full if num_tasks is None else num_tasks)


def _classes(number: int) -> str:
    return counted(number, "class", "classes")


def setting_that_fits(num_classes: int, per_task: int) -> str:
    """Return the setting to type where tasks of equal size leave classes over; empty if none do."""
    full, left = divmod(num_classes, per_task)
    if full == 0:
        return f"data.classes_per_task={num_classes}"
    return (_sizes_that_fit(num_classes, full) or f"data.num_tasks={full}") if left else ""


def _sizes_that_fit(num_classes: int, num_tasks: int) -> str:
    """Return the setting of nearly equal tasks, as it is typed, if it is short."""
    num_tasks = max(2, num_tasks)
    if num_tasks > _MOST_LISTED:
        return ""
    small, larger = divmod(num_classes, num_tasks)
    sizes = [small + 1] * larger + [small] * (num_tasks - larger)
    return f"data.classes_per_task=[{','.join(map(str, sizes))}]"
