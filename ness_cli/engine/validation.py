"""Validation while a task is being trained: what early stops and the best weights are chosen by.

A network with per-task statistics has none yet for a task in training. It is scored with what they
would be by now: those of a fixed sample of the task's training images, recorded anew every time, in
large batches, for a small part of the time of an epoch. By the statistics of the validation images
themselves small sets score far below their true value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional

from ness_cli import seeding
from ness_cli.data.batches import Images, cut, validation_batch_size
from ness_cli.data.tasks.sampling import pick
from ness_cli.engine.score import Score, fraction_true, logits, refuse_non_finite
from ness_cli.methods.base import Method
from ness_cli.methods.task import Task
from ness_cli.nets.multi_head import MultiHead
from ness_cli.processes import current_processes

FEWEST, MOST = 500, 2000
"""Training images whose statistics validation normalises by: a tenth of them, in these limits."""


class Validation:
    """The validation of one task: on the images of every task that is trained.

    Args:
        method: Its model, as it is whenever a score is asked for.
        task: The task.
        seed: The run's seed, which decides the samples.
        batch_size: Images per forward pass with batch statistics.
    """

    def __init__(self, method: Method, task: Task, *, seed: int, batch_size: int) -> None:
        self.method = method
        self.sets = [images for images in method.validation_sets(task) if len(images)]
        self.batch_size = batch_size if method.model.statistics == "batch" else None
        self.samples: dict[int, tuple[Images, torch.Tensor]] = {}
        if self.sets and method.model.statistics == "task":
            self.samples = {
                images.task: (images, _sample(images, seed))
                for images in method.training_sets(task)
            }

    @property
    def is_possible(self) -> bool:
        """Whether there are images to validate on."""
        return bool(self.sets)

    @torch.no_grad()
    def score(self, where: str) -> Score:
        """Return loss and accuracy over the images of all tasks trained.

        The loss is the mean cross-entropy, and the method's penalty if it has one.

        Args:
            where: What has just been trained, for the message of an error.

        Raises:
            NumericalError: If the loss is not finite; names the layer.
        """
        loss, accuracy, total = 0.0, 0.0, sum(map(len, self.sets))
        for images in self.sets:
            score = self._score_of(images)
            if not math.isfinite(score.loss):
                refuse_non_finite(self.method, images, where)
            loss += len(images) * score.loss
            accuracy += len(images) * score.accuracy
        if (penalty := self.method.penalty(None)) is not None:
            loss += total * float(penalty)
        # All processes go by the numbers of the first.
        return Score(*current_processes().of_main(loss / total, accuracy / total))

    def _score_of(self, images: Images) -> Score:
        size = self.batch_size or validation_batch_size(len(images))
        with self.method.task_view(images.task) as model, self._statistics(model, images.task):
            outputs = logits(model, images, size, lambda _: None)
        loss = functional.cross_entropy(outputs, images.labels)
        return Score(float(loss), fraction_true(outputs.argmax(dim=1) == images.labels))

    @contextmanager
    def _statistics(self, model: MultiHead, task_number: int) -> Iterator[None]:
        if task_number not in self.samples:
            yield
            return
        images, positions = self.samples[task_number]
        pieces = cut(len(positions), validation_batch_size(len(positions)))
        with model.passing_statistics(images.batch(positions[piece]).x for piece in pieces):
            yield


def _sample(images: Images, seed: int) -> torch.Tensor:
    """Return the positions of a task's sample, the same in every epoch and after a restart."""
    generator = seeding.generator(seed, "validation statistics", images.task)
    number = min(len(images), max(FEWEST, min(MOST, len(images) // 10)))
    return pick(len(images), number, generator)[0]
