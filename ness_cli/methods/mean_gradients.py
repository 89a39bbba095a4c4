"""The gradient of the mean loss over some images, layer by layer."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ness_cli.data.batches import Images
from ness_cli.errors import NumericalError
from ness_cli.methods.base import Method
from ness_cli.methods.files import Tensors
from ness_cli.methods.step import cross_entropy
from ness_cli.processes import current_processes
from ness_cli.subspace.layer_view import join


def mean_gradients(
    method: Method, images: Images, advance: Callable[[int], None] = lambda images: None
) -> Tensors:
    """Return the gradient of the images' mean loss by layer, ``[out, d]`` float64, on the CPU.

    Gradients are taken in evaluation mode, and the layers require one from now on. Several
    processes divide the batches among them.

    Args:
        method: Its model, in the view of the images' task.
        images: Images of one task, as stored.
        advance: Called with the number of images done.

    Raises:
        NumericalError: If a gradient is not finite, naming the layer.
    """
    layers, processes = method.layers, current_processes()
    parameters = [p for layer in layers.values() for p in layer.parameters.values()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    with method.task_view(images.task) as model:
        for number, where in enumerate(method.batch_slices(images)):
            if number % processes.size == processes.rank:
                batch = images.batch(where)
                loss = cross_entropy(model(batch.x), batch) * (len(batch) / len(images))
                torch._foreach_add_(sums, torch.autograd.grad(loss, parameters))
            advance(where.stop - where.start)
    processes.sum_(sums)
    mean, found = iter(sums), {}
    for name, layer in layers.items():
        gradient = join({part: next(mean) for part in layer.parameters}).cpu().double()
        if not torch.isfinite(gradient).all():
            raise NumericalError(
                f"layer {name}: its mean gradient holds NaN or infinite values",
                "lower train.lr, or check the images",
            )
        found[name] = gradient
    return found
