"""Any classification model of torchvision, with or without its pretrained weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ness_cli.settings.nets.base_library import Argument, LibraryModel


class Options(LibraryModel):
    """Options of the network ``torchvision``."""

    name: Literal["torchvision"] = "torchvision"
    """A model of ``torchvision.models``; its images must have three channels."""
    model: str
    """A builder, as ``resnet18``, ``resnet50``, ``vit_b_16`` or ``convnext_tiny``; or one of the
    classes ``ResNet`` and ``VisionTransformer`` with all their arguments."""
    arguments: dict[str, Argument] = Field(default={})
    """Arguments of the builder or class, as ``{width_per_group: 32}``. ``image_size`` of a vision
    transformer is that of the images."""
    pretrained: str | None = None
    """Weights that task 1 starts from: a name as ``DEFAULT`` or ``IMAGENET1K_V1``, or a
    ``.safetensors`` or ``.pth`` file of your own. Give the images the mean and deviation that
    these were trained with (``data.mean``, ``data.std``). Random ones when absent."""
