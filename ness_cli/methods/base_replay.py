"""Methods that store a few training images of every task and train on them again.

The images are chosen when a task is consolidated, and lie in the method's file from then on: the
data of earlier tasks may be deleted. A batch of stored images is made as the run makes batches,
augmented and mixed, one for every task in it: each is normalised with the constants of its own
task, and by itself in normalisation layers, and is scored on its own head. Old heads train, since
there are images to train them on.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import ClassVar

import torch
from torch import nn

from ness_cli import seeding
from ness_cli.data.batches import Batch, Images
from ness_cli.data.episodic_memory import EpisodicMemory
from ness_cli.methods.base import Method
from ness_cli.methods.files import Files, MethodFile, Tensors
from ness_cli.methods.step import TrainStep, cross_entropy
from ness_cli.methods.task import LayerRow, Task
from ness_cli.settings.methods.base_replay import ReplayOptions


class ReplayMethod(Method):
    """Memory: ``memory``, images of every task with labels, priorities and constants."""

    options: ReplayOptions
    files: ClassVar[tuple[MethodFile, ...]] = (
        MethodFile(
            "memory",
            made_by="build",
            needed="newest",
            read_by=("train", "build"),
            holds_images=True,
        ),
    )

    def start(self) -> None:
        """Begin with no images."""
        options = self.options
        self._memory = EpisodicMemory(
            options.memory,
            per_class=options.per_class,
            is_balanced=options.selection == "balanced",
        )
        self._stored: list[Images] = []
        self._replayed: tuple[TrainStep, list[Batch], list[int]] | None = None

    def load_memory(self, files: Files) -> None:
        """Take in the stored images."""
        self._memory.load(files.get("memory", {}))

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of building, the stored images."""
        return {"memory": self._memory.tensors()} if step == "build" else {}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of a full memory."""
        channels, *size = self.model.image_shape
        num_tasks = len(self.model.heads)
        return {"memory": self._memory.num_bytes(channels * prod(size), channels, num_tasks)}

    # -- training ----------------------------------------------------------------------------

    def trained_in(self, task_number: int) -> set[nn.Parameter]:
        """Return what trains in a task: heads and scales of earlier tasks too."""
        own = (self.model.own_parameters(earlier) for earlier in range(1, task_number))
        return super().trained_in(task_number).union(*own)

    def begin_task(self, task: Task) -> None:
        """Put the stored images on the device."""
        super().begin_task(task)
        self._stored = self._memory.sets(task.train.labels.device)

    def end_task(self, task: Task) -> None:
        """Let go of the images on the device."""
        super().end_task(task)
        self._stored, self._replayed = [], None

    def statistics_sets(self, task: Task) -> list[Images]:
        """Return the task's images and those stored: the weights of old statistics are gone."""
        fewest = 2  # the variance of one image is none
        stored = self._memory.sets(task.train.labels.device)
        return [*super().statistics_sets(task), *(i for i in stored if len(i) >= fewest)]

    def replayed(self, step: TrainStep, count: int, *, is_mixed: bool) -> list[Batch]:
        """Return batches of stored images, each of one earlier task; none if nothing is stored.

        They are the same whenever they are asked for in a step, as SAM does twice. What is drawn
        depends on seed, task and step only.

        Args:
            step: The step.
            count: Images in all, at most.
            is_mixed: Whether they are drawn from all tasks alike, or all from one, which is drawn
                by how many images it has.
        """
        if self._resting or not self._stored:
            return []  # while a head learns alone, nothing that was learned can change
        if self._replayed is None or self._replayed[0] is not step:
            drawn = self._drawn(step, count, is_mixed=is_mixed)
            sizes = [len(positions) for _, positions in drawn]
            self._replayed = step, [step.make_batch(*own) for own in drawn], sizes
        return self._replayed[1]

    def _drawn(
        self, step: TrainStep, count: int, *, is_mixed: bool
    ) -> list[tuple[Images, torch.Tensor]]:
        """Return the sets that images are drawn from, and their positions, int64 ``[n]``."""
        address = "replay", step.images.task, step.progress.num_done
        generator = seeding.generator(self.seed, *address)
        sizes = [len(images) for images in self._stored]
        chosen = torch.randperm(sum(sizes), generator=generator)
        owners = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        if not is_mixed:
            chosen = chosen[owners[chosen] == owners[chosen[0]]]
        chosen = chosen[:count]
        # A batch of one that normalises by itself is all zeros.
        fewest = 1 if self.model.statistics == "none" else 2
        found = []
        for number, images in enumerate(self._stored):
            positions = chosen[owners[chosen] == number] - sum(sizes[:number])
            if len(positions) >= fewest:
                found.append((images, positions))
        return found

    def replay(self, step: TrainStep, factor: float = 1.0) -> torch.Tensor:
        """Add the gradients of the mean loss over stored images to ``.grad``; return the loss.

        Args:
            step: The step, for which images have been ``replayed``.
            factor: Times the loss.
        """
        assert self._replayed is not None
        assert self._replayed[0] is step
        _, batches, sizes = self._replayed
        losses = []
        # Of a batch that processes divide, this one has a part; its task counts by the whole.
        for batch, size in zip(batches, sizes, strict=True):
            own = cross_entropy(step.logits(batch), batch, self.train.label_smoothing)
            loss = size / sum(sizes) * own
            step.backward(factor * loss, batch)
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    # -- consolidation -----------------------------------------------------------------------

    def consolidation_work(self, task: Task) -> int:
        """Return the number of images that are chosen from."""
        return len(task.train)

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Store images of this task, and let go of as many others as there is no room for."""
        generator = seeding.generator(self.seed, "exemplars", task.number)
        self._memory.add(task.train, generator)
        advance(len(task.train))
        return []
