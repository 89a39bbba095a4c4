"""From settings to a stream of tasks: one data set cut into tasks, or several in sequence.

A data source is a file in ``sources`` with two functions: ``content_hash(options, progress)``
returns a hash of its files, and the context manager ``opened(options, progress)`` provides a
``Dataset``. With ``progress=None`` nothing may be downloaded or written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from ness_cli import registry
from ness_cli.data.dataset import Dataset, Shape
from ness_cli.data.tasks.plan import (
    TaskPlan,
    images_to_read,
    plan_tasks,
    read_tasks,
    shares_labels,
)
from ness_cli.data.tasks.raw import RawStream, RawTask, StreamOutline, TaskOutline
from ness_cli.errors import MissingFilesError, SettingsError
from ness_cli.hashing import sha256_of_text
from ness_cli.settings.sources.base import DatasetSettings, DataSettings, PublicSettings

if TYPE_CHECKING:
    from ness_cli.console import Advance, Progress

Opened = tuple[DatasetSettings, Dataset, list[TaskPlan]]


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


def stream_outline(options: DataSettings) -> StreamOutline:
    """Return names and counts of the tasks, downloading and writing nothing.

    Raises:
        InputError: If images cannot be listed or do not make a data set, or all are missing.
        SettingsError: If the settings do not fit the data.
    """
    tasks: list[TaskOutline] = []
    left_out: list[str] = []
    missing: list[MissingFilesError] = []
    datasets = options.datasets()
    shape: Shape | None = None
    for each in datasets:
        try:
            with _source(each).opened(each, None) as dataset:
                shape = _same_shape(shape, dataset, each)
                plans = plan_tasks(dataset, each)
                left_out += dataset.left_out
                tasks += [plan.outline(each) for plan in _named(plans, each, len(datasets))]
        except MissingFilesError as error:
            missing.append(error)
    if shape is None:
        raise _together(missing)
    shared = _shared(datasets)
    return StreamOutline(shape, shared, tuple(tasks), tuple(left_out), tuple(missing))


@contextlib.contextmanager
def opened_stream(options: DataSettings, progress: Progress) -> Iterator[RawStream]:
    """Provide the stream inside the block, each task read when it is asked for.

    Raises:
        InputError: If an image cannot be read, or differs in size from the others.
        SettingsError: If the settings do not fit the data.
    """
    datasets = options.datasets()
    shape: Shape | None = None
    with contextlib.ExitStack() as stack:
        found: list[Opened] = []
        for each in datasets:
            dataset = stack.enter_context(_source(each).opened(each, progress))
            shape = _same_shape(shape, dataset, each)
            found.append((each, dataset, _named(plan_tasks(dataset, each), each, len(datasets))))
        assert shape is not None
        total = sum(images_to_read(plans, each) for each, _, plans in found)
        with progress.track("reading images", total) as advance:
            left_out = tuple(name for _, dataset, _ in found for name in dataset.left_out)
            yield RawStream(shape, _shared(datasets), _tasks(found, advance), left_out)


def _tasks(found: Sequence[Opened], advance: Advance) -> Iterator[RawTask]:
    for number, (each, dataset, plans) in enumerate(found):
        yield from read_tasks(dataset, plans, each, advance, number=number)


def _source(options: DatasetSettings) -> ModuleType:
    name = options.reader or options.source
    return registry.load("ness_cli.data.sources", name, place="data.source")


def _shared(datasets: Sequence[DatasetSettings]) -> bool:
    return len(datasets) == 1 and shares_labels(datasets[0])


def _named(plans: list[TaskPlan], options: DatasetSettings, num_datasets: int) -> list[TaskPlan]:
    """Put the name of the data set into its tasks' names, where there are several data sets."""
    if num_datasets == 1:
        return plans
    alone = len(plans) == 1
    return [
        TaskPlan(
            options.title if alone else f"{options.title} {plan.name}",
            *(plan.classes, plan.members, plan.change),
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
