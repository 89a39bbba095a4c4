"""Any classification model of torchvision as a backbone.

Its classifier is taken off, batch norm becomes ``TaskNorm``, and attention becomes attention whose
projections can be watched. Everything else stays as it is; what is no Linear or Conv2d layer (class
token, position embedding, layer norm, biases unless they are augmented) is trained in task 1 only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ness_cli.errors import SettingsError, did_you_mean
from ness_cli.nets.attention import SelfAttention
from ness_cli.nets.backbones.base_converted import ConvertedModel, made, put
from ness_cli.nets.prompts import AttentionBlock
from ness_cli.settings.nets.torchvision import Options
from ness_cli.vision_libraries import import_torchvision

_CLASSES = ("ResNet", "VisionTransformer")
_NUM_CLASSES = 1000  # what every builder gives its classifier; it is taken off again


class Torchvision(ConvertedModel[Options]):
    """A converted model; layers have torchvision's names.

    Args:
        options: Which model, its arguments.
        image_shape: ``(c, h, w)`` of the images.
        make_norm: Builds the normalisation layer of a given width.
        weights: Weights to start from, by torchvision's names, without those of the classifier.

    Raises:
        SettingsError: If there is no such model, it cannot be converted, or it cannot take such
            images.
        SystemRefusedError: If torchvision cannot be imported.
    """

    def build(self, options: Options, image_shape: Sequence[int]) -> nn.Module:
        """Return the model, its classifier taken off.

        Raises:
            SettingsError: If there is no such model, or it cannot take such images.
        """
        if image_shape[0] != 3:
            raise SettingsError(
                f"net.model: {options.model} takes colour images, these have {image_shape[0]}"
                " channel",
                "set data.channels=rgb",
            )
        model = _build(options, image_shape)
        _take_off_classifier(model, options.model)
        return model

    @staticmethod
    def arguments(options: Options, image_shape: Sequence[int]) -> dict[str, Any]:
        """Return those given, and the image size that a vision transformer is made for."""
        found: dict[str, Any] = dict(options.arguments)
        if options.model.startswith(("vit_", "VisionTransformer")):
            found.setdefault("image_size", image_shape[1])
        return found

    def remade(self, num_classes: int) -> nn.Module:
        """Return torchvision's own model, initialised."""
        return _build(self.options, self.image_shape, num_classes)

    def prepared(self, model: nn.Module) -> nn.Module:
        """Return the model with attention whose projections can be observed."""
        return _with_watchable_attention(model)

    def attention_blocks(self, model: nn.Module) -> list[AttentionBlock]:
        """Return the blocks of a vision transformer; none of any other model."""
        return _attention_blocks(model)


def _build(
    options: Options, image_shape: Sequence[int], num_classes: int = _NUM_CLASSES
) -> nn.Module:
    models = import_torchvision().models
    known = list(models.list_models(module=models))
    arguments = Torchvision.arguments(options, image_shape)
    if "image_size" in arguments and image_shape[1] != image_shape[2]:
        raise SettingsError(
            f"net.model: {options.model} takes square images, these are {image_shape[1]} x"
            f" {image_shape[2]}",
            f"set data.size={image_shape[1]}",
        )
    if options.model in _CLASSES:
        builder = getattr(models, options.model)
        if "block" in arguments:
            arguments["block"] = getattr(models.resnet, str(arguments["block"]), None)
    elif options.model in known:
        builder = models.get_model_builder(options.model)
    else:
        raise SettingsError(
            f"net.model: torchvision has no classification model {options.model!r}"
            f"{did_you_mean(options.model, [*known, *_CLASSES])}",
            "see torchvision.models",
        )
    return made(options, lambda: builder(num_classes=num_classes, **arguments))


def _take_off_classifier(model: nn.Module, name: str) -> None:
    """Put the identity in place of the classifier."""
    linears = [
        (path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)
    ]
    is_plain = bool(linears) and linears[-1][1].out_features == _NUM_CLASSES
    has_auxiliary = any(module.out_features == _NUM_CLASSES for _, module in linears[:-1])
    if not is_plain or has_auxiliary:
        raise SettingsError(
            f"net.model: {name} does not end in one linear classifier", "choose another model"
        )
    path, _ = linears[-1]
    put(model, path, nn.Identity())


def _with_watchable_attention(model: nn.Module) -> nn.Module:
    """Return the model with its attention replaced, values kept."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.MultiheadAttention):
            put(model, name, SelfAttention.like(module, name=name))
    return model


def _attention_blocks(model: nn.Module) -> list[AttentionBlock]:
    """Return the blocks of a vision transformer; none of any other model."""
    kind = import_torchvision().models.vision_transformer.EncoderBlock
    return [
        AttentionBlock(
            f"model.{name}",
            module.ln_1,
            module.self_attention,
            module.self_attention.in_proj,
            module.self_attention.num_heads,
        )
        for name, module in model.named_modules()
        if isinstance(module, kind)
    ]
