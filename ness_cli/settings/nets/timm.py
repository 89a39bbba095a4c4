"""Any classification model of timm, with its pretrained weights or not; needs the extra timm."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ness_cli.settings.nets.base_library import Argument, LibraryModel


class Options(LibraryModel):
    """Options of the network ``timm``."""

    name: Literal["timm"] = "timm"
    """A model of timm (PyTorch Image Models); ``pip install 'ness-cli[timm]'`` brings it."""
    model: str
    """A name that ``timm.list_models()`` has, as ``resnet18`` or ``vit_base_patch16_224``; with the
    tag of its weights if these are taken from the cache, ``vit_base_patch16_224.augreg_in21k``."""
    arguments: dict[str, Argument] = Field(default={})
    """Arguments of the model, as ``{patch_size: 4, depth: 2, embed_dim: 32, num_heads: 2}``.
    ``img_size`` of models that need it and ``in_chans`` are those of the images."""
    pretrained: str | None = None
    """Weights that task 1 starts from: a ``.safetensors`` or ``.pth`` file of your own, or
    ``cache`` for those that are in the cache of the Hugging Face hub already. Nothing is
    downloaded. Give the images the mean and deviation that these were trained with (``data.mean``,
    ``data.std``). Random ones when absent."""
