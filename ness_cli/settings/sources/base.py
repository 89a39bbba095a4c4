"""What every data source lets the user set."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import Self

from ness_cli.settings.base import ANYTHING, Section, only_with

Constants = Annotated[tuple[float, ...], Field(strict=False, min_length=1, max_length=4)]
Names = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1)]
PerTask = Annotated[int, Field(ge=1)] | Counts
Side = Annotated[int, Field(ge=1)]
Size = Side | Annotated[tuple[Side, Side], Field(strict=False)]

SHARED_LABEL_TASKS = 10  # permutations or rotations, unless num_tasks says otherwise

# What decides where the images come from and how they get there, but not what they are.
_LOCATIONS = ("path", "download")


class DataSettings(Section):
    """A task stream: where images come from and how they become tasks.

    Attributes:
        reader: Name of the source that reads the files, if not that of the settings.
    """

    reader: ClassVar[str | None] = None
    source: str
    """A name that ``ness datasets`` lists."""
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of every task's training images set aside for validation."""
    split_seed: Annotated[int, Field(ge=0)] | Literal["run"] = 0
    """Seed of every random choice in the data (splits, orders, permutations). It is apart from the
    run's seed, so that runs with different seeds learn the same stream; ``run`` takes the run's
    seed, so that every seed learns a stream of its own."""

    def identity(self) -> dict[str, Any]:
        """Return what decides the stream's content besides the files, as plain values."""
        return without_locations(self.model_dump(mode="json"))

    def for_run(self, seed: int) -> Self:
        """Return these settings with ``split_seed: run`` replaced by the run's seed."""
        return self.model_copy(update={"split_seed": seed}) if self.split_seed == "run" else self

    def datasets(self) -> tuple[DatasetSettings, ...]:
        """Return the settings of every data set of the stream, in order."""
        raise NotImplementedError

    def locations(self) -> list[Any]:
        """Return where every data set lies: a path, several, or ``None`` if it lies nowhere."""
        return [each.model_dump(mode="json").get("path") for each in self.datasets()]

    @property
    def stream_seed(self) -> int:
        """The seed of random choices; ``for_run`` has replaced ``run`` by then."""
        assert isinstance(self.split_seed, int)
        return self.split_seed


class DatasetSettings(DataSettings):
    """One data set, and how it is cut into tasks."""

    name: str | None = None
    """What tables call the data set in a sequence; the source's name when absent."""
    protocol: Literal["split", "permuted", "rotated"] = "split"
    """``split``: tasks are disjoint groups of classes. ``permuted``: every task shows all classes
    under its own fixed permutation of the pixels. ``rotated``: under its own rotation."""
    num_tasks: int | None = Field(default=None, ge=1)
    """Number of tasks: as many as the classes make when absent, or 10 permutations or rotations."""
    classes_per_task: PerTask = Field(default=10, json_schema_extra=only_with(protocol="split"))
    """Classes of every task, or a list with one number per task."""
    class_order: Literal["sorted", "seeded", "numpy-seeded"] | Names = "sorted"
    """Order in which classes are assigned to tasks: by label, shuffled by ``split_seed``,
    shuffled by it as numpy's legacy generator does (published miniImageNet runs), or a list of
    class names."""
    task_order: Counts | None = None
    """Order of the tasks, numbered from 1 in the order that they have when absent; those that are
    not named are left out."""
    limit_per_class: int | None = Field(default=None, ge=1)
    """At most this many training images of each class, chosen by ``split_seed``, for quick trials;
    all when absent."""
    test_fraction: float | None = Field(default=None, gt=0, lt=1)
    """Share of each class set aside for testing where the data has no test images of its own; none
    when absent."""
    max_angle: float = Field(
        default=180.0, gt=0, le=360, json_schema_extra=only_with(protocol="rotated")
    )
    """``rotated``: the angles go from 0 in equal steps up to, not including, this many degrees."""
    size: Size | None = None
    """Bring images to this many pixels: one number for a square, or height and width. Left
    as they are when absent, which needs all of one size."""
    fit: Literal["bilinear", "lanczos", "pad"] = Field(
        default="bilinear", json_schema_extra=only_with(size=ANYTHING)
    )
    """How images come to ``size``: resized (antialiased), or padded with black on all sides."""
    channels: Literal["auto", "rgb", "grey"] = "auto"
    """Convert to colour or grey; ``auto`` keeps grey only if every image is grey."""
    layout: Literal["planes", "scrambled"] = "planes"
    """``scrambled`` reads the bytes of the colour planes as if they were interleaved pixels, as the
    published CIFAR-100 superclass runs did; images are no longer images then."""
    mean: Constants | None = None
    """Mean per channel of pixel values scaled to 0..1; computed from the training images of the
    data set's first task when absent."""
    std: Constants | None = None
    """Standard deviation per channel; computed likewise when absent."""

    def in_effect(self) -> dict[str, Any]:
        """Return the number of tasks where the classes do not decide it."""
        decided = self.num_tasks is not None or self.protocol == "split"
        return {} if decided else {"num_tasks": SHARED_LABEL_TASKS}

    @property
    def title(self) -> str:
        """What tables and messages call the data set."""
        return self.name or self.source

    def datasets(self) -> tuple[DatasetSettings, ...]:
        """Return these settings: there is one data set."""
        return (self,)


class PublicSettings(DatasetSettings):
    """A public data set whose files can be downloaded."""

    path: str = "data"
    """Folder of the downloaded files, or a file in it."""
    download: bool = True
    """Download files that are missing, checked against their known MD5."""


class TorchvisionClassSettings(PublicSettings):
    """A data set with a name of its own that torchvision has a class for.

    Attributes:
        dataset: That class in ``torchvision.datasets``.
    """

    reader: ClassVar[str | None] = "torchvision"
    dataset: ClassVar[str]
    classes_per_task: PerTask = 2
    """Classes of every task, or a list with one number per task."""


def without_locations(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings of a data set without those that only say where it lies."""
    return {key: value for key, value in values.items() if key not in _LOCATIONS}
