"""Squared gradients of a task's loss: the diagonal of its Fisher information, from batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from ness_cli.data.batches import Images, cut
from ness_cli.methods.base import Method
from ness_cli.methods.files import Tensors
from ness_cli.methods.step import cross_entropy
from ness_cli.processes import current_processes


def squared_gradients(
    method: Method,
    images: Images,
    parameters: Mapping[str, nn.Parameter],
    *,
    batch_size: int,
    of_predicted: bool = False,
    advance: Callable[[int], None] = lambda images: None,
) -> Tensors:
    """Return (1 / N) sum over batches of n (gradient of the batch's mean loss)^2, by parameter.

    Gradients are taken in evaluation mode. Several processes divide the batches among them.

    Args:
        method: Its model, in the view of the images' task.
        images: N images of one task, as stored.
        parameters: What the gradients are taken of, by name.
        batch_size: Images per batch; the last may have fewer, and counts by its own size.
        of_predicted: Take the loss against the class that is predicted, not the label.
        advance: Called with the number of images done.
    """
    processes, of_interest = current_processes(), list(parameters.values())
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    with method.task_view(images.task) as model:
        pieces = cut(len(images), batch_size, model.smallest_batch(batch_size))
        for index, where in enumerate(pieces):
            if index % processes.size == processes.rank:
                batch = images.batch(where)
                logits = model(batch.x)
                if of_predicted:
                    batch = replace(batch, y=logits.argmax(dim=1))
                gradients = torch.autograd.grad(cross_entropy(logits, batch), of_interest)
                for total, gradient in zip(sums.values(), gradients, strict=True):
                    total.addcmul_(gradient, gradient, value=len(batch) / len(images))
            advance(where.stop - where.start)
    processes.sum_(list(sums.values()))
    return sums
