"""Seeing what goes into layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from ness_cli.subspace.layer_view import LayerView

_CHUNK_BYTES = 8 * 2**20  # what a cache of a CPU holds: larger ones measure slower there
_GPU_CHUNK_BYTES = 256 * 2**20  # on a GPU launching thousands of small products takes longer


@contextmanager
def observed_inputs(
    layers: Mapping[str, LayerView], see: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """Show the input of every layer, as the layer takes it, in every forward pass made within.

    Args:
        layers: Layers by name.
        see: Called with the name and the input, ``[n, ...]``, detached.
    """
    handles = [
        layer.module.register_forward_pre_hook(
            lambda _, args, name=name: see(name, args[0].detach())
        )
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def calling_between_layers(model: nn.Module, call: Callable[[], None]) -> Iterator[None]:
    """Call something before every layer of every forward pass made within.

    An exception that it raises ends the pass: of a large batch, long before it would be done.
    """
    handles = [
        module.register_forward_pre_hook(lambda *_: call())
        for module in model.modules()
        if not any(True for _ in module.children())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def chunks_of_rows(layer: LayerView, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the rows of a layer's input, a few million numbers at a time, more on a GPU.

    Args:
        layer: The layer.
        x: Its input, ``[n, ...]``.
    """
    chunk = _GPU_CHUNK_BYTES if x.device.type == "cuda" else _CHUNK_BYTES
    size = max(1, chunk // (8 * layer.dim * layer.rows_per_image(x)))
    for start in range(0, len(x), size):
        yield layer.rows(x[start : start + size])
