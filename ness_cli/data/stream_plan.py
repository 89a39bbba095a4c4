"""From settings to a stream of tasks: one data set cut into tasks, or several in sequence.

A data source is a file in ``sources`` with two functions: ``content_hash(options, progress)``
returns a hash of its files, and the context manager ``opened(options, progress)`` provides a
``Dataset``. With ``progress=None`` nothing may be downloaded or written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import ModuleType
from typing import TYPE_CHECKING

from ness_cli import registry
from ness_cli.data.dataset import Dataset, Shape
from ness_cli.data.tasks.plan import (
    Splits,
    TaskPlan,
    images_to_read,
    plan_tasks,
    read_tasks,
    shares_labels,
)
from ness_cli.errors import InputError, MissingFilesError, SettingsError
from ness_cli.hashing import sha256_of_text
from ness_cli.settings.sources.base import DatasetSettings, DataSettings, PublicSettings

if TYPE_CHECKING:
    from ness_cli.console import Progress


@dataclass(frozen=True)
class StreamPlan:
    """A stream whose images are not read yet.

    Attributes:
        image_shape: ``(channels, height, width)`` of every image.
        shared_labels: Whether label k means the same in every task, as a shared head needs.
        tasks: The tasks in their order.
        left_out: Names of files that cannot be read and are skipped on request.
        missing: Why some data sets of a sequence cannot be listed.
    """

    image_shape: Shape
    shared_labels: bool
    tasks: tuple[TaskPlan, ...]
    left_out: tuple[str, ...] = ()
    missing: tuple[InputError, ...] = ()


def content_hashes(
    datasets: Sequence[DatasetSettings], progress: Progress, *, download: bool = True
) -> list[str]:
    """Return the SHA-256 of the files of every data set.

    Args:
        datasets: The data sets.
        progress: Told what is going on.
        download: Whether what is missing may be downloaded, where the settings allow it.

    Raises:
        InputError: If files are missing or cannot be read; all missing ones are named at once.
    """
    hashes, missing = [], []
    for each in datasets:
        if not download and isinstance(each, PublicSettings):
            each = each.model_copy(update={"download": False})
        try:
            hashes.append(str(_source(each).content_hash(each, progress)))
        except MissingFilesError as error:
            missing.append(error)
    if missing:
        raise _together(missing)
    return hashes


def content_of_all(hashes: Sequence[str]) -> str:
    """Return one SHA-256 for the hashes of all data sets, in their order."""
    return sha256_of_text("".join(hashes))


def plan_stream(options: DataSettings) -> StreamPlan:
    """Return the tasks as far as listings tell, downloading and writing nothing.

    Raises:
        InputError: If images cannot be listed or do not make a data set, or all are missing.
        SettingsError: If the settings do not fit the data.
    """
    tasks: list[TaskPlan] = []
    left_out: list[str] = []
    missing: list[MissingFilesError] = []
    datasets = options.datasets()
    shape: Shape | None = None
    for dataset_index, each in enumerate(datasets):
        try:
            with _source(each).opened(each, None) as dataset:
                shape = _same_shape(shape, dataset, each)
                left_out += dataset.left_out
                tasks += _plans(dataset, datasets, dataset_index)
        except MissingFilesError as error:
            missing.append(error)
    if shape is None:
        raise _together(missing)
    return StreamPlan(shape, _shared(datasets), tuple(tasks), tuple(left_out), tuple(missing))


@contextlib.contextmanager
def opened_stream(
    options: DataSettings, progress: Progress
) -> Iterator[tuple[StreamPlan, Iterator[Splits]]]:
    """Provide the stream inside the block, and the images of each task, read when asked for.

    Raises:
        InputError: If an image cannot be read, or differs in size from the others.
        SettingsError: If the settings do not fit the data.
    """
    datasets = options.datasets()
    shape: Shape | None = None
    with contextlib.ExitStack() as stack:
        found: list[tuple[Dataset, list[TaskPlan]]] = []
        for dataset_index, each in enumerate(datasets):
            dataset = stack.enter_context(_source(each).opened(each, progress))
            shape = _same_shape(shape, dataset, each)
            found.append((dataset, _plans(dataset, datasets, dataset_index)))
        assert shape is not None
        planned = StreamPlan(
            shape,
            _shared(datasets),
            tuple(plan for _, plans in found for plan in plans),
            tuple(name for dataset, _ in found for name in dataset.left_out),
        )
        total = sum(images_to_read(plans) for _, plans in found)
        with progress.track("reading images", total) as advance:
            read = (read_tasks(dataset, plans, advance) for dataset, plans in found)
            yield planned, chain.from_iterable(read)


def _source(options: DatasetSettings) -> ModuleType:
    name = options.reader or options.source
    return registry.load("ness_cli.data.sources", name, setting="data.source")


def _shared(datasets: Sequence[DatasetSettings]) -> bool:
    return len(datasets) == 1 and shares_labels(datasets[0])


def _plans(
    dataset: Dataset, datasets: Sequence[DatasetSettings], dataset_index: int
) -> list[TaskPlan]:
    """Return the tasks of a data set; of several data sets, their names begin with that of theirs.

    Args:
        dataset: The data set.
        datasets: The settings of all data sets.
        dataset_index: Which of them it is.
    """
    options = datasets[dataset_index]
    plans = plan_tasks(dataset, options)
    if len(datasets) == 1:
        return plans
    alone = len(plans) == 1
    return [
        replace(
            plan,
            name=options.title if alone else f"{options.title} {plan.name}",
            dataset=dataset_index,
        )
        for plan in plans
    ]


def _same_shape(shape: Shape | None, dataset: Dataset, options: DatasetSettings) -> Shape:
    mine = dataset.image_shape
    if shape is not None and mine != shape:
        first, here = (" x ".join(map(str, each)) for each in (shape, mine))
        raise SettingsError(
            f"data.sources: images of {options.title} are {here}, those before are {first}"
            " (channels x height x width)",
            "set data.size and data.channels for all, and data.fit=pad to pad instead of resizing",
        )
    return mine


def _together(missing: Sequence[MissingFilesError]) -> MissingFilesError:
    if len(missing) == 1:
        return missing[0]
    return MissingFilesError(
        "\n  ".join(["files are missing:", *(error.what for error in missing)]),
        "\n  ".join(dict.fromkeys(error.remedy for error in missing)),
        can_download=all(error.can_download for error in missing),
    )
