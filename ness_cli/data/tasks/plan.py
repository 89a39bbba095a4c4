"""Cut a data set into tasks: by class, by permutations of the pixels, or by rotations.

Everything is decided on labels; the images of a task are read when the task is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from ness_cli import seeding
from ness_cli.data.dataset import Dataset, Shape
from ness_cli.data.task_stream import SPLITS
from ness_cli.data.tasks.classes import assigned_classes, in_order
from ness_cli.data.tasks.permutations_and_rotations import Change, permutations, rotations
from ness_cli.data.tasks.sampling import floor_fraction, pick
from ness_cli.errors import InputError, SettingsError
from ness_cli.settings.sources.base import SHARED_LABEL_TASKS, DatasetSettings

_T = TypeVar("_T")
Splits = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""uint8 images ``[n, c, h, w]`` and int64 labels ``[n]`` by split; there is no ``valid`` where
validation images are yet to be set aside from ``train``."""
Members = Mapping[str, torch.Tensor]
"""int64 positions of the images of one class, by split, likewise."""


@dataclass(frozen=True)
class TaskPlan:
    """A task that is decided, and whose images are not read yet.

    Attributes:
        name: Name of the task.
        classes: Names of its classes; label k stands for the k-th.
        members: Where the images of each class are.
        options: Settings of the data set that it is cut from.
        change: What is done to its images.
        dataset: Number of that data set in the stream; its tasks share constants of normalisation.
    """

    name: str
    classes: tuple[str, ...]
    members: tuple[Members, ...]
    options: DatasetSettings
    change: Change | None = None
    dataset: int = 0

    def positions(self, split: str) -> list[torch.Tensor] | None:
        """Return where the images of a split are, class by class, if it has them."""
        return [member[split] for member in self.members if split in member] or None

    def counts(self, split: str) -> tuple[int, ...]:
        """Return the number of images of every class."""
        return tuple(len(each) for each in self.positions(split) or ())

    @property
    def num_images(self) -> int:
        """Number of images of all splits."""
        return sum(sum(self.counts(split)) for split in SPLITS)


def shares_labels(options: DatasetSettings) -> bool:
    """Return whether label k means the same in every task."""
    return options.protocol != "split"


def plan_tasks(dataset: Dataset, options: DatasetSettings) -> list[TaskPlan]:
    """Return the tasks that the settings ask for.

    Raises:
        InputError: If two classes have one name, or one has no training or no test images.
        SettingsError: If the settings do not fit the data.
    """
    _refuse_equal_names(dataset.classes, options)
    members = _members(dataset, options)
    if options.protocol == "split":
        plans = _split(dataset.classes, members, options)
    else:
        names = tuple(in_order(list(dataset.classes), options))
        plans = [
            TaskPlan(name, names, tuple(members[each] for each in names), options, change)
            for name, change in _shared_label_changes(dataset.image_shape, options)
        ]
    return _reordered(plans, options)


def _shared_label_changes(shape: Shape, options: DatasetSettings) -> Iterator[tuple[str, Change]]:
    """Yield the name of every task that shares its labels with others, and what it does."""
    changes = {"permuted": permutations, "rotated": rotations}[options.protocol]
    return changes(shape, options.num_tasks or SHARED_LABEL_TASKS, options)


def task_changes(
    shape: Shape, num_tasks: int, options: DatasetSettings
) -> tuple[Change | None, ...]:
    """Return what every task of a data set does to the pixels of its images, in their order.

    Args:
        shape: ``(channels, height, width)`` of the images.
        num_tasks: How many tasks there are.
        options: Settings of the data set.
    """
    laid_out = scrambled if options.layout == "scrambled" else None
    if not shares_labels(options):
        return (laid_out,) * num_tasks
    changes = _reordered([each for _, each in _shared_label_changes(shape, options)], options)
    return tuple(change if laid_out is None else _both(laid_out, change) for change in changes)


def _both(first: Change, second: Change) -> Change:
    return lambda images: second(first(images))


def read_tasks(
    dataset: Dataset, plans: Sequence[TaskPlan], advance: Callable[[int], object]
) -> Iterator[Splits]:
    """Yield the images of every task.

    Args:
        dataset: Where the images come from.
        plans: The tasks.
        advance: Told of images read; images that all tasks share are read once.
    """
    read: Splits = {}
    for plan in plans:
        if not (read and shares_labels(plan.options)):
            read = {
                split: _read(dataset, split, positions, advance)
                for split in SPLITS
                if (positions := plan.positions(split)) is not None
            }
        yield {split: (_changed(images, plan), labels) for split, (images, labels) in read.items()}


def images_to_read(plans: Sequence[TaskPlan]) -> int:
    """Return how many images ``read_tasks`` will read."""
    read = plans[:1] if shares_labels(plans[0].options) else plans
    return sum(plan.num_images for plan in read)


def _read(
    dataset: Dataset,
    split: str,
    positions: list[torch.Tensor],
    advance: Callable[[int], object],
) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.tensor([len(each) for each in positions])
    labels = torch.arange(len(positions)).repeat_interleave(counts)
    # Test images that were set aside lie among the training images.
    source = split if dataset.labels(split) is not None else "train"
    return dataset.images(source, torch.cat(positions), advance), labels


def _changed(images: torch.Tensor, plan: TaskPlan) -> torch.Tensor:
    if plan.options.layout == "scrambled":
        images = scrambled(images)
    return images if plan.change is None else plan.change(images)


def scrambled(images: torch.Tensor) -> torch.Tensor:
    """Return images ``[n, c, h, w]`` whose planes are read as if pixels were interleaved."""
    n, c, h, w = images.shape
    return images.reshape(n, h, w, c).permute(0, 3, 1, 2).contiguous()


# -- which images --------------------------------------------------------------------------------


def _members(dataset: Dataset, options: DatasetSettings) -> Mapping[str, Members]:
    """Return where the images of every class are, after test split and limit."""
    train, test, valid = (dataset.labels(split) for split in ("train", "test", "valid"))
    assert train is not None
    if test is not None and options.test_fraction is not None:
        raise SettingsError(
            f"data.test_fraction: {options.test_fraction}, but the data has test images",
            "leave data.test_fraction out",
        )
    if test is None and options.test_fraction is None:
        raise InputError(
            "data.path: there are no test images",
            "set data.test_fraction, for example data.test_fraction=0.2",
        )
    members: dict[str, dict[str, torch.Tensor]] = {}
    for label, name in enumerate(dataset.classes):
        own = (train == label).nonzero().flatten()
        if test is None:
            aside, own = _set_aside(own, name, options)
        else:
            aside = (test == label).nonzero().flatten()
        members[name] = {"train": _limited(own, name, options), "test": aside}
        if valid is not None:
            members[name]["valid"] = (valid == label).nonzero().flatten()
    _refuse_one_sided(members)
    return members


def _refuse_equal_names(classes: Sequence[str], options: DatasetSettings) -> None:
    """Refuse names that stand for two classes: one of them would be lost."""
    for name, times in Counter(classes).items():
        if times > 1:
            raise InputError(
                f"{options.title}: {times} classes are called {name!r}",
                "give every class a name of its own, or remove the file that repeats them",
            )


def _refuse_one_sided(members: Mapping[str, Members]) -> None:
    """Refuse classes that were never trained or are never tested."""
    empty = {
        name: "test" if len(member["train"]) else "train"
        for name, member in members.items()
        if not (len(member["train"]) and len(member["test"]))
    }
    for name, missing in empty.items():
        other = "train" if missing == "test" else "test"
        has_other = len(members[name]["train"]) + len(members[name]["test"]) > 0
        what = f"images in {other} and none in {missing}" if has_other else "no images"
        more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise InputError(f"class {name!r} has {what}{more}", "add its images, or remove the class")


def _set_aside(
    positions: torch.Tensor, name: str, options: DatasetSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Set a share of a class aside for testing, at least one image of each."""
    assert options.test_fraction is not None
    if len(positions) == 1:
        raise InputError(
            f"class {name!r} has 1 image, too few for training and testing",
            "add images, or remove the class",
        )
    number = min(len(positions), max(1, floor_fraction(len(positions), options.test_fraction)))
    generator = seeding.generator(options.stream_seed, f"test-split/{name}")
    aside, rest = pick(len(positions), number, generator)
    return positions[aside], positions[rest]


def _limited(positions: torch.Tensor, name: str, options: DatasetSettings) -> torch.Tensor:
    if options.limit_per_class is None or len(positions) <= options.limit_per_class:
        return positions
    generator = seeding.generator(options.stream_seed, f"limit/{name}")
    chosen, _ = pick(len(positions), options.limit_per_class, generator)
    return positions[chosen]


# -- which tasks ---------------------------------------------------------------------------------


def _split(
    classes: Sequence[str], members: Mapping[str, Members], options: DatasetSettings
) -> list[TaskPlan]:
    plans, start = [], 0
    for names in assigned_classes(classes, options):
        title = f"classes-{start + 1}-{start + len(names)}"
        start += len(names)
        plans.append(TaskPlan(title, names, tuple(members[each] for each in names), options))
    return plans


def _reordered(plans: list[_T], options: DatasetSettings) -> list[_T]:
    order = options.task_order
    if order is None:
        return plans
    if len(set(order)) < len(order) or not set(order) <= set(range(1, len(plans) + 1)):
        raise SettingsError(
            f"data.task_order: {list(order)} names a task twice, or one that is not among the"
            f" tasks 1 to {len(plans)}",
            "name each at most once, or leave it out",
        )
    return [plans[number - 1] for number in order]
