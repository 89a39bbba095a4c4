"""What every data source lets the user set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ness_cli.settings.base import Section

Constants = Annotated[tuple[float, ...], Field(strict=False, min_length=1, max_length=4)]


class DataSettings(Section):
    """A task stream: where images come from and how they become tasks."""

    source: str
    """A name that ``ness datasets`` lists."""
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of every task's training images set aside for validation."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of every random choice in the data (splits, orders, permutations). It is apart from the
    run's seed, so that runs with different seeds learn the same stream."""
    mean: Constants | None = None
    """Mean per channel of pixel values scaled to 0..1; computed from task 1's training images when
    absent."""
    std: Constants | None = None
    """Standard deviation per channel, likewise."""


class ClassSplitSettings(DataSettings):
    """A stream whose tasks are disjoint groups of the classes of one data set."""

    classes_per_task: int | Annotated[tuple[int, ...], Field(strict=False, min_length=1)] = 10
    """Classes of every task, or a list with one number per task."""
    num_tasks: int | None = Field(default=None, ge=1)
    """Number of tasks, counted from the start of the class order; all there are when absent."""
    class_order: (
        Literal["sorted", "seeded"] | Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    ) = "sorted"
    """Order in which classes are dealt to tasks: by name, shuffled by ``split_seed``, or a list of
    class names."""
    limit_per_class: int | None = Field(default=None, ge=1)
    """At most this many training images of each class, chosen by ``split_seed``; for quick
    trials."""
