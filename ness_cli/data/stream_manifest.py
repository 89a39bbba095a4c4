"""What is written down of a task stream: of a planned one before its images are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ness_cli.data.normalisation import Constants, given_constants
from ness_cli.data.stream_plan import plan_stream
from ness_cli.data.task_stream import SPLITS
from ness_cli.data.tasks.plan import TaskPlan
from ness_cli.data.tasks.sampling import valid_count
from ness_cli.extensions import STREAM
from ness_cli.settings.sources.base import DataSettings

_BYTES_PER_LABEL = 8

Manifest = dict[str, Any]


def plan(options: DataSettings) -> Manifest:
    """Return the manifest that ``prepare`` would, as far as listings tell, writing nothing.

    It has neither key nor hashes; ``bytes`` counts tensors without a file's header, and constants
    of normalisation that would have to be computed are ``None``. ``missing`` says what keeps data
    sets of a sequence from being listed.

    Raises:
        InputError: If images are missing, or a task would have none.
        SettingsError: If the settings do not fit the data.
    """
    planned = plan_stream(options)
    channels, height, width = planned.image_shape
    per_image = channels * height * width + _BYTES_PER_LABEL
    tasks = []
    for task_number, task in enumerate(planned.tasks, 1):
        counts = {split: sum(task.counts(split)) for split in SPLITS}
        if task.positions("valid") is None:
            fraction = task.options.valid_fraction
            counts["valid"] = valid_count(counts["train"], len(task.classes), fraction)
            counts["train"] -= counts["valid"]
        splits = {
            name: {"count": count, "bytes": count * per_image} for name, count in counts.items()
        }
        constants = given_constants(task.options, channels)
        tasks.append(task_entry(task_number, task, constants, splits))
    return {
        "schema": STREAM,
        "source": options.source,
        "image_shape": [channels, height, width],
        "shared_labels": planned.shared_labels,
        "tasks": tasks,
        "left_out": list(planned.left_out),
        "missing": [{"what": error.what, "remedy": error.remedy} for error in planned.missing],
    }


def task_entry(
    task_number: int, task: TaskPlan, constants: Constants, splits: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the entry of a task in the manifest."""
    return {
        "number": task_number,
        "name": task.name,
        "classes": list(task.classes),
        "class_counts": {split: list(task.counts(split)) for split in ("train", "test")},
        "mean": constants[0],
        "std": constants[1],
        "splits": dict(splits),
    }
