"""Any classification model of timm (PyTorch Image Models, Wightman 2019) as a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ness_cli.errors import SettingsError, did_you_mean
from ness_cli.nets.backbones.base_converted import ConvertedModel, made
from ness_cli.nets.prompts import AttentionBlock
from ness_cli.settings.nets.timm import Options
from ness_cli.vision_libraries import import_timm


class Timm(ConvertedModel[Options]):
    """A model of timm; layers have timm's names behind ``model.``."""

    def build(self, options: Options, image_shape: Sequence[int]) -> nn.Module:
        """Return the model without its classifier; nothing is downloaded.

        Raises:
            SettingsError: If there is no such model, its arguments are wrong, or it has layers to
                be adapted that are no plain linear ones or convolutions.
        """
        timm = import_timm()
        if not timm.is_model(options.model.partition(".")[0]):
            known = timm.list_models()
            raise SettingsError(
                f"net.model: timm has no model {options.model!r}"
                f"{did_you_mean(options.model, known)}",
                "see timm.list_models()",
            )
        model = _create(options, image_shape, num_classes=0)
        _refuse_special_layers(model, options)
        return model

    @staticmethod
    def arguments(options: Options, image_shape: Sequence[int]) -> dict[str, Any]:
        """Return those given, and what the images decide: channels, and a size that is fixed."""
        found: dict[str, Any] = {"in_chans": image_shape[0], **options.arguments}
        config = import_timm().get_pretrained_cfg(options.model)
        if config is not None and config.fixed_input_size:
            found.setdefault("img_size", list(image_shape[1:]))
        return found

    def remade(self, num_classes: int) -> nn.Module:
        """Return timm's own model, initialised."""
        return _create(self.options, self.image_shape, num_classes)

    def attention_blocks(self, model: nn.Module) -> list[AttentionBlock]:
        """Return the blocks of a plain vision transformer; none of any other model.

        Plain: layer norm, and attention by one softmax of queries times keys as they come out of
        their layer, which is what covariances of what prompts do are made of.
        """
        timm = import_timm()
        kind = timm.models.vision_transformer.Block
        return [
            AttentionBlock(
                f"model.{name}",
                module.norm1,
                module.attn,
                module.attn.qkv,
                module.attn.num_heads,
            )
            for name, module in model.named_modules()
            if type(module) is kind
            and isinstance(module.norm1, nn.LayerNorm)
            and type(module.attn) is timm.layers.Attention
            and isinstance(module.attn.q_norm, nn.Identity)
        ]


def _create(options: Options, image_shape: Sequence[int], num_classes: int) -> nn.Module:
    arguments = Timm.arguments(options, image_shape)
    return made(
        options,
        lambda: import_timm().create_model(
            options.model, pretrained=False, num_classes=num_classes, **arguments
        ),
    )


def _refuse_special_layers(model: nn.Module, options: Options) -> None:
    """Refuse layers to be adapted that do more than multiply their weight and their input."""
    for name, module in model.named_modules(prefix="model"):
        is_special = type(module) not in (nn.Linear, nn.Conv2d)
        if not isinstance(module, nn.Linear | nn.Conv2d) or not is_special:
            continue
        if any(fnmatchcase(name, pattern) for pattern in options.adapt):
            raise SettingsError(
                f"net.adapt: layer {name} is a {type(module).__name__}, which changes its weight or"
                " its input before it multiplies them",
                "name the layers to adapt in net.adapt and leave it out, or choose another model",
            )
