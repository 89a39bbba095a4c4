"""Layers that cannot be trained deterministically on CUDA, found by what they compute.

With deterministic algorithms torch raises an error in the backward pass of a few operations, deep
inside the first training step. Here a network is asked beforehand, whether it uses modules or
functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from ness_cli.errors import SettingsError
from ness_cli.nets.multi_head import MultiHead
from ness_cli.settings.sections import ComputeSettings

# Source: documentation of torch.use_deterministic_algorithms, torch 2.13, operations that "will
# throw a RuntimeError". Left out: what no network differentiates (histc, median), and bilinear
# interpolation, which torch.nn.functional.interpolate computes in another way when asked to be
# deterministic. Adaptive pooling to a single value is a mean and does not show up as pooling.
WITHOUT_DETERMINISTIC_BACKWARD = {
    "avg_pool3d": "AvgPool3d",
    "_adaptive_avg_pool2d": "AdaptiveAvgPool2d",
    "_adaptive_avg_pool3d": "AdaptiveAvgPool3d",
    "adaptive_max_pool2d": "AdaptiveMaxPool2d",
    "fractional_max_pool2d": "FractionalMaxPool2d",
    "fractional_max_pool3d": "FractionalMaxPool3d",
    "max_unpool2d": "MaxUnpool2d",
    "max_unpool3d": "MaxUnpool3d",
    "upsample_linear1d": "linear interpolation",
    "upsample_bicubic2d": "bicubic interpolation",
    "upsample_trilinear3d": "trilinear interpolation",
    "reflection_pad1d": "ReflectionPad1d",
    "reflection_pad2d": "ReflectionPad2d",
    "reflection_pad3d": "ReflectionPad3d",
    "grid_sampler_2d": "grid_sample",
    "grid_sampler_3d": "grid_sample",
    "cumsum": "cumsum",
}


def refuse_nondeterministic(
    model: MultiHead, image_shape: Sequence[int], compute: ComputeSettings, device: torch.device
) -> None:
    """Refuse a network that cannot be trained deterministically on a device, if that is asked for.

    Args:
        model: The network, on any device, with a head for its selected task.
        image_shape: ``(c, h, w)`` of the images.
        compute: What is asked for.
        device: Where it is to be trained.

    Raises:
        SettingsError: Naming the layer and what it computes.
    """
    if compute.determinism != "strict" or device.type != "cuda":
        return
    for layer, kind in nondeterministic_layers(model, image_shape).items():
        raise SettingsError(
            f"compute.determinism: layer {layer} has no deterministic backward pass on a GPU"
            f" ({kind})",
            "set compute.determinism=seeded, choose another network or data.size, or --device cpu",
        )


@torch.no_grad()
def nondeterministic_layers(model: MultiHead, image_shape: Sequence[int]) -> dict[str, str]:
    """Return the layers of a network without a deterministic backward pass, and what they are.

    Two empty images are passed through; the model is left as it was.
    """
    own = next(model.parameters())
    images = torch.zeros(2, *image_shape, device=own.device, dtype=own.dtype)
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]), ModuleTracker() as tracker:
            recorder = _OperationRecorder(tracker)
            with recorder:
                model(images)
    finally:
        model.train(was_training)
    return recorder.found


class _OperationRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes in which module an operation of the table is called."""

    def __init__(self, tracker: ModuleTracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = tracker
        self.found: dict[str, str] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        kind = WITHOUT_DETERMINISTIC_BACKWARD.get(func.overloadpacket.__name__)
        if kind is not None:
            path = max(self.tracker.parents, key=len)
            self.found.setdefault(path.partition(".backbone.")[2] or path, kind)
        result: torch.Tensor = func(*args, **(kwargs or {}))
        return result
