"""Cut a data set into tasks: by class, by permutations of the pixels, or by rotations.

Everything is decided on labels; the images of a task are read when the task is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from ness_cli import seeding
from ness_cli.data.dataset import Dataset, Shape
from ness_cli.data.task_stream import SPLITS
from ness_cli.data.tasks.classes import deal, in_order
from ness_cli.data.tasks.raw import RawTask, TaskOutline
from ness_cli.data.tasks.shares import floor_share, pick
from ness_cli.errors import InputError, SettingsError
from ness_cli.settings.sources.base import SHARED_LABEL_TASKS, DatasetSettings

Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ClassImages:
    """Where the images of one class are: int64 positions in the images of each split.

    ``valid`` is ``None`` where validation images are yet to be set aside from ``train``.
    """

    train: torch.Tensor
    test: torch.Tensor
    valid: torch.Tensor | None = None

    def of(self, split: str) -> torch.Tensor | None:
        """Return the positions in one split."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[split]


@dataclass(frozen=True)
class TaskPlan:
    """A task that is decided and not yet read.

    Attributes:
        name: Name of the task.
        classes: Names of its classes.
        members: Where the images of each class are.
        change: What is done to its images, uint8 ``[n, c, h, w]`` to the same.
    """

    name: str
    classes: tuple[str, ...]
    members: tuple[ClassImages, ...]
    change: Change | None = None

    def positions(self, split: str) -> list[torch.Tensor] | None:
        """Return where the images of a split are, class by class, if it has them."""
        found = [member.of(split) for member in self.members]
        return [each for each in found if each is not None] or None

    def counts(self, split: str) -> tuple[int, ...]:
        """Return the number of images of every class."""
        return tuple(len(each) for each in self.positions(split) or ())

    @property
    def num_images(self) -> int:
        """Number of images of all splits."""
        return sum(sum(self.counts(split)) for split in SPLITS)

    def outline(self, options: DatasetSettings) -> TaskOutline:
        """Return names and counts."""
        own = self.positions("valid") is not None
        return TaskOutline(
            name=self.name,
            classes=self.classes,
            train_counts=self.counts("train"),
            test_counts=self.counts("test"),
            num_valid=sum(self.counts("valid")) if own else None,
            options=options,
        )


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
        number = options.num_tasks or SHARED_LABEL_TASKS
        changes = {"permuted": _permutations, "rotated": _rotations}[options.protocol]
        names = tuple(in_order(list(dataset.classes), options))
        plans = [
            TaskPlan(name, names, tuple(members[each] for each in names), change)
            for name, change in changes(dataset.image_shape, number, options)
        ]
    return _reordered(plans, options)


def read_tasks(
    dataset: Dataset,
    plans: Sequence[TaskPlan],
    options: DatasetSettings,
    advance: Callable[[int], object],
    *,
    number: int = 0,
) -> Iterator[RawTask]:
    """Yield the tasks with their images.

    Args:
        dataset: Where the images come from.
        plans: The tasks.
        options: Settings of the data set.
        advance: Told of images read; images that all tasks share are read once.
        number: Number of the data set in its stream.
    """
    read: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for plan in plans:
        if not (read and shares_labels(options)):
            read = {
                split: _read(dataset, split, positions, advance)
                for split in SPLITS
                if (positions := plan.positions(split)) is not None
            }
        found = {
            split: (_changed(images, plan.change, options), labels)
            for split, (images, labels) in read.items()
        }
        yield RawTask(
            plan.name,
            plan.classes,
            *found["train"],
            *found["test"],
            options=options,
            dataset=number,
            valid=found.get("valid"),
        )


def images_to_read(plans: Sequence[TaskPlan], options: DatasetSettings) -> int:
    """Return how many images ``read_tasks`` will read."""
    read = plans[:1] if shares_labels(options) else plans
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


def _changed(images: torch.Tensor, change: Change | None, options: DatasetSettings) -> torch.Tensor:
    if options.layout == "scrambled":
        n, c, h, w = images.shape
        images = images.reshape(n, h, w, c).permute(0, 3, 1, 2).contiguous()
    return images if change is None else change(images)


# -- which images --------------------------------------------------------------------------------


def _members(dataset: Dataset, options: DatasetSettings) -> dict[str, ClassImages]:
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
    members = {}
    for label, name in enumerate(dataset.classes):
        own = (train == label).nonzero().flatten()
        if test is None:
            aside, own = _set_aside(own, name, options)
        else:
            aside = (test == label).nonzero().flatten()
        validation = None if valid is None else (valid == label).nonzero().flatten()
        members[name] = ClassImages(_limited(own, name, options), aside, validation)
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


def _refuse_one_sided(members: dict[str, ClassImages]) -> None:
    """Refuse classes that were never trained or are never tested."""
    empty = {
        name: "test" if len(member.train) else "train"
        for name, member in members.items()
        if not (len(member.train) and len(member.test))
    }
    for name, missing in empty.items():
        other = "train" if missing == "test" else "test"
        has_other = len(members[name].train) + len(members[name].test) > 0
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
    number = min(len(positions), max(1, floor_share(len(positions), options.test_fraction)))
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
    classes: Sequence[str], members: dict[str, ClassImages], options: DatasetSettings
) -> list[TaskPlan]:
    plans, start = [], 0
    for names in deal(classes, options):
        title = f"classes-{start + 1}-{start + len(names)}"
        start += len(names)
        plans.append(TaskPlan(title, names, tuple(members[each] for each in names)))
    return plans


def _permutations(
    shape: Shape, number: int, options: DatasetSettings
) -> Iterator[tuple[str, Change]]:
    """Yield permutations of the pixels, the first one included; channels move together."""
    for task in range(1, number + 1):
        generator = seeding.generator(options.stream_seed, "permutation", task)
        order = torch.randperm(shape[1] * shape[2], generator=generator)
        yield f"permutation-{task}", partial(permuted, order=order)


def _rotations(shape: Shape, number: int, options: DatasetSettings) -> Iterator[tuple[str, Change]]:
    """Yield rotations about the centre, counter-clockwise, the first one by nothing."""
    for task in range(number):
        angle = options.max_angle * task / number
        yield f"rotation-{angle:g}", partial(rotated, angle=angle)


def permuted(images: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return images ``[n, c, h, w]`` with their pixels in another order, int64 ``[h w]``."""
    return images.flatten(2)[:, :, order].reshape(images.shape)


def rotated(images: torch.Tensor, angle: float, chunk: int = 4096) -> torch.Tensor:
    """Return images rotated counter-clockwise about their centre, bilinear, black outside.

    Args:
        images: uint8 ``[n, c, h, w]``.
        angle: Degrees.
        chunk: Images at a time.
    """
    if angle == 0:
        return images
    height, width = images.shape[2:]
    turn = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
    cos, sin = turn.cos(), turn.sin()
    # Where each output pixel comes from, in coordinates of -1..1 along each side.
    theta = torch.stack(
        [
            torch.stack([cos, -sin * height / width, torch.zeros_like(cos)]),
            torch.stack([sin * width / height, cos, torch.zeros_like(cos)]),
        ]
    )
    out = torch.empty_like(images)
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk].double()
        grid = functional.affine_grid(
            theta.expand(len(part), 2, 3), list(part.shape), align_corners=False
        )
        turned = functional.grid_sample(part, grid, align_corners=False)
        out[start : start + chunk] = turned.round().clamp(0, 255).to(torch.uint8)
    return out


def _reordered(plans: list[TaskPlan], options: DatasetSettings) -> list[TaskPlan]:
    order = options.task_order
    if order is None:
        return plans
    if sorted(order) != list(range(1, len(plans) + 1)):
        raise SettingsError(
            f"data.task_order: {list(order)} does not name the tasks 1 to {len(plans)} once each",
            "give a permutation, or leave it out",
        )
    return [plans[number - 1] for number in order]
