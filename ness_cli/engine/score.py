"""Scoring: losses, accuracies, and the statistics a task is evaluated with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ness_cli.data.batches import Images
from ness_cli.errors import NumericalError
from ness_cli.methods.base import Method
from ness_cli.nets.multi_head import MultiHead

STATISTICS_BATCH = 500


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy and accuracy (a fraction) over some images."""

    loss: float
    accuracy: float


@torch.no_grad()
def logits(
    model: MultiHead, images: Images, batch_size: int, advance: Callable[[int], None]
) -> torch.Tensor:
    """Return the logits of all images in stored order, ``[n, num_classes]``, model as it is."""
    parts = []
    for batch in images.in_order(batch_size, model.smallest_batch(batch_size)):
        parts.append(model(batch.x))
        advance(len(batch))
    return torch.cat(parts)


def task_incremental_accuracy(
    method: Method, images: Images, batch_size: int, advance: Callable[[int], None]
) -> float:
    """Return the task-incremental accuracy on one task, which is known; a fraction."""
    with method.task_view(images.task) as model:
        predicted = logits(model, images, batch_size, advance).argmax(dim=1)
    return fraction_true(predicted == images.labels)


def class_incremental_accuracy(
    method: Method,
    images: Images,
    seen: Sequence[int],
    batch_size: int,
    advance: Callable[[int], None],
) -> float:
    """Return the class-incremental accuracy on one task, which is not known; a fraction.

    Every image passes through the view of every task seen; the largest of all logits decides.
    With batch statistics a batch still holds images of a single task.

    Args:
        method: The method and its model, which has a head per task.
        images: Images of one task, labels local to it.
        seen: Numbers of all tasks learned so far.
        batch_size: Images per forward pass.
        advance: Told of images done.
    """
    outputs, offset = [], 0
    for number in seen:
        with method.task_view(number) as model:
            part = logits(model, images, batch_size, advance)
        if number < images.task:
            offset += part.shape[1]
        outputs.append(part)
    predicted = torch.cat(outputs, dim=1).argmax(dim=1)
    return fraction_true(predicted == images.labels + offset)


def fraction_true(correct: torch.Tensor) -> float:
    """Return the fraction of true values."""
    # Counted, not averaged: some accelerators have no float64, and a mean in float32 rounds.
    return int(correct.sum()) / len(correct)


@torch.no_grad()
def record_statistics(method: Method, sets: Sequence[Images]) -> None:
    """Record the normalisation statistics of each set's task, if the network keeps any.

    One pass over the training images in stored order, dropout off, every layer normalising by its
    own batch.
    """
    if method.model.statistics != "task":
        return
    for images in sets:
        with method.task_view(images.task) as model, model.record_statistics():
            for batch in images.in_order(STATISTICS_BATCH, 2):
                model(batch.x)


@torch.no_grad()
def refuse_non_finite(method: Method, images: Images, where: str) -> None:
    """Find the first layer whose output is not finite and say so.

    Raises:
        NumericalError: Always; it names the layer if one is found.
    """
    found: list[str] = []
    handles = [
        layer.module.register_forward_hook(
            lambda _module, _args, output, name=name: (
                None if torch.isfinite(output).all() else found.append(name)
            )
        )
        for name, layer in method.layers.items()
    ]
    try:
        with method.task_view(images.task) as model:
            model(images.batch(slice(0, 256)).x)
    finally:
        for handle in handles:
            handle.remove()
    what = f"layer {found[0]}: its output" if found else "the loss"
    also = ", or set train.clip_norm" if method.train.clip_norm is None else ""
    raise NumericalError(f"{what} became NaN or infinite at {where}", f"lower train.lr{also}")
