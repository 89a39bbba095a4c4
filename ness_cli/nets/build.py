"""From settings to a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial

import torch

from ness_cli import registry
from ness_cli.errors import SettingsError
from ness_cli.nets.multi_head import MultiHead
from ness_cli.nets.norm import TaskNorm
from ness_cli.settings.nets.base import NetSettings
from ness_cli.settings.sections import NormSettings

BACKBONES = "ness_cli.nets.backbones"


def build_model(
    net: NetSettings,
    norm: NormSettings,
    image_shape: Sequence[int],
    weights: Mapping[str, torch.Tensor] | None = None,
) -> MultiHead:
    """Return a network without heads, initialised from torch's default generator.

    Args:
        net: Which backbone and its options.
        norm: Policy of the normalisation layers.
        image_shape: ``(c, h, w)`` of the images.
        weights: Weights that a pretrained backbone starts from, by their published names.

    Raises:
        SettingsError: If the backbone is unknown, cannot take such images, or has a layer that is
            to be adapted and cannot be watched.
    """
    make_norm = partial(TaskNorm, statistics=norm.statistics, affine=norm.affine)
    kind = registry.load_class(BACKBONES, net.name, setting="net.name")
    start = {} if weights is None else {"weights": weights}
    backbone = kind(net, image_shape, make_norm, **start)
    _refuse_silent(getattr(backbone, "silent_layers", ()), net)
    return MultiHead(
        backbone,
        backbone.num_features,
        shared_head=net.heads == "shared",
        adapt=net.adapt,
        augments_bias=net.bias == "augmented",
        image_shape=image_shape,
    )


def _refuse_silent(layers: Sequence[str], net: NetSettings) -> None:
    """Refuse layers whose inputs cannot be seen, among those that later tasks are to train in."""
    for name in layers:
        if any(fnmatchcase(name, pattern) for pattern in net.adapt):
            raise SettingsError(
                f"net.adapt: the weight of layer {name} is used without calling the layer, so its"
                " inputs cannot be seen",
                "name the layers to adapt in net.adapt and leave it out, or choose another model",
            )
