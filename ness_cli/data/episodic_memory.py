"""An episodic memory: images of earlier tasks, stored as they were prepared.

Every image draws a random number, its priority, once. Which images stay is decided by priorities
alone, so that memories of the same images are the same whatever came between:

- ``balanced``: the smallest priorities of every class of every task, as many of each as fit;
- reservoir: the smallest priorities of all, which is a uniform sample of everything seen.

After an epoch in random order, the rings of A-GEM (the last m images of every class) hold such a
uniform sample of every class, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch

from ness_cli.data.batches import Images
from ness_cli.data.task_stream import Split


@dataclass(frozen=True)
class Exemplars:
    """Stored images of one task.

    Attributes:
        images: uint8 ``[n, c, h, w]``, before any augmentation.
        labels: Local to the task, int64 ``[n]``.
        priorities: float64 ``[n]`` in [0, 1).
        constants: Mean and standard deviation of pixels in 0..1 that the task's images are
            normalised with, float32 ``[2, c]``.
    """

    images: torch.Tensor
    labels: torch.Tensor
    priorities: torch.Tensor
    constants: torch.Tensor

    def at(self, positions: torch.Tensor) -> Exemplars:
        """Return those at some positions, int64 ``[n]``."""
        kept = self.images[positions], self.labels[positions], self.priorities[positions]
        return Exemplars(*kept, self.constants)


class EpisodicMemory:
    """Images of several tasks.

    Args:
        capacity: Images, at most.
        per_class: Images of every class of every task, at most.
        is_balanced: Whether classes are to have equally many; otherwise it is a reservoir.
    """

    def __init__(
        self, capacity: int, *, per_class: int | None = None, is_balanced: bool = True
    ) -> None:
        self.capacity = capacity
        self.per_class = per_class
        self.is_balanced = is_balanced
        self._exemplars: dict[int, Exemplars] = {}

    def add(self, images: Images, generator: torch.Generator) -> None:
        """Take in images of a further task; of all tasks those stay that there is room for.

        Args:
            images: Training images of one task.
            generator: Draws their priorities.
        """
        labels = images.labels.cpu()
        priorities = torch.rand(len(labels), generator=generator, dtype=torch.float64)
        everything = {task: (own.labels, own.priorities) for task, own in self._exemplars.items()}
        kept = self._kept({**everything, images.task: (labels, priorities)})
        self._exemplars = {task: own.at(kept[task]) for task, own in self._exemplars.items()}
        new = kept[images.task]
        self._exemplars[images.task] = Exemplars(
            images=images.images[new.to(images.images.device)].cpu(),
            labels=labels[new],
            priorities=priorities[new],
            constants=torch.tensor([images.mean, images.std], dtype=torch.float32),
        )

    def _kept(
        self, drawn: Mapping[int, tuple[torch.Tensor, torch.Tensor]]
    ) -> dict[int, torch.Tensor]:
        """Return the positions of the images of every task that stay, ascending."""
        ranks = torch.cat([ranks_in_class(*own) for own in drawn.values()])
        order = torch.cat([priorities for _, priorities in drawn.values()]).argsort()
        if self.is_balanced:
            order = order[ranks[order].argsort(stable=True)]
        if self.per_class is not None:
            order = order[ranks[order] < self.per_class]
        stays = torch.zeros(len(ranks), dtype=torch.bool)
        stays[order[: self.capacity]] = True
        parts = torch.split(stays, [len(labels) for labels, _ in drawn.values()])
        return {task: part.nonzero()[:, 0] for task, part in zip(drawn, parts, strict=True)}

    def sets(self, device: torch.device) -> list[Images]:
        """Return the images of every task that has any, on a device."""
        return [
            Images(
                Split(own.images, own.labels),
                task=task,
                mean=own.constants[0].tolist(),
                std=own.constants[1].tolist(),
                device=device,
            )
            for task, own in self._exemplars.items()
            if len(own.labels)
        ]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return everything as ``<kind>.<task>`` tensors."""
        return {
            f"{field.name}.{task}": getattr(own, field.name)
            for task, own in self._exemplars.items()
            for field in fields(Exemplars)
        }

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take in what ``tensors`` returned."""
        tasks = sorted(
            int(name.rpartition(".")[2]) for name in tensors if name.startswith("labels.")
        )
        self._exemplars = {
            task: Exemplars(*(tensors[f"{field.name}.{task}"] for field in fields(Exemplars)))
            for task in tasks
        }

    def num_bytes(self, image_bytes: int, num_channels: int, num_tasks: int) -> int:
        """Return the bytes that it can have at most, after so many tasks."""
        label_and_priority = 8 + 8
        constants = 2 * 4 * num_channels
        return self.capacity * (image_bytes + label_and_priority) + num_tasks * constants


def ranks_in_class(labels: torch.Tensor, priorities: torch.Tensor) -> torch.Tensor:
    """Return how many images of its class come before every image, int64 ``[n]``.

    Args:
        labels: int64 ``[n]``.
        priorities: float64 ``[n]``.
    """
    ranks = torch.empty_like(labels)
    order = priorities.argsort()
    for label in set(labels.tolist()):
        own = order[labels[order] == label]
        ranks[own] = torch.arange(len(own))
    return ranks
