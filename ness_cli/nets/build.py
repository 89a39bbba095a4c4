"""From settings to a network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ness_cli import registry
from ness_cli.nets.multi_head import MultiHead
from ness_cli.nets.norm import TaskNorm
from ness_cli.settings.nets.base import NetSettings
from ness_cli.settings.sections import NormSettings

BACKBONES = "ness_cli.nets.backbones"


def build_model(net: NetSettings, norm: NormSettings, image_shape: Sequence[int]) -> MultiHead:
    """Return a network without heads, initialised from torch's default generator.

    Args:
        net: Which backbone and its options.
        norm: Policy of the normalisation layers.
        image_shape: ``(c, h, w)`` of the images.

    Raises:
        SettingsError: If the backbone is unknown or cannot take such images.
    """
    make_norm = partial(TaskNorm, statistics=norm.statistics, affine=norm.affine)
    backbone = registry.load_class(BACKBONES, net.name, place="net.name")(
        net, image_shape, make_norm
    )
    return MultiHead(backbone, backbone.num_features, shared_head=net.heads == "shared")
