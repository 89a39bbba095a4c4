"""Any classification model of torchvision as a backbone.

Its classifier is taken off, batch norm becomes ``TaskNorm``, and attention becomes attention whose
projections can be watched. Everything else stays as it is; what is no Linear or Conv2d layer (class
token, position embedding, layer norm, biases unless they are augmented) is trained in task 1 only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ness_cli.errors import SettingsError, did_you_mean
from ness_cli.nets.attention import SelfAttention
from ness_cli.nets.norm import TaskNorm
from ness_cli.nets.prompts import AttentionBlock, make_prompts
from ness_cli.settings.nets.torchvision import Options
from ness_cli.vision import import_torchvision

MakeNorm = Callable[[int], TaskNorm]
_CLASSES = ("ResNet", "VisionTransformer")
_NUM_CLASSES = 1000  # what every builder gives its classifier; it is taken off again


class Torchvision(nn.Module):
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

    def __init__(
        self,
        options: Options,
        image_shape: Sequence[int],
        make_norm: MakeNorm,
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        if image_shape[0] != 3:
            raise SettingsError(
                f"net.model: {options.model} takes colour images, these have {image_shape[0]}"
                " channel",
                "set data.channels=rgb",
            )
        model = _build(options, image_shape)
        self.num_features = _take_off_classifier(model, options.model)
        if weights is not None:
            _load(model, weights, options)
        self.model = _with_watchable_attention(model)
        self.prompts = make_prompts(_attention_blocks(self.model), options)
        self.image_shape = tuple(image_shape)
        self._try(options)
        # Last of all: norms of each task's own have no scale before there is a task.
        _replace_batch_norm(self.model, make_norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features ``[n, num_features]`` of images ``[n, 3, h, w]``."""
        features: torch.Tensor = self.model(x)
        return features.flatten(1)

    @torch.no_grad()
    def _try(self, options: Options) -> None:
        """Pass two images through, and see that every adapted layer is really called."""
        layers = {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        }
        called: set[str] = set()
        handles = [
            module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
            for name, module in layers.items()
        ]
        self.eval()
        try:
            with torch.random.fork_rng(devices=[]):
                features = self(torch.zeros(2, *self.image_shape))
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).partition("\n")[0]
            raise SettingsError(
                f"net.model: {options.model} cannot take images of {self.image_shape[1]} x"
                f" {self.image_shape[2]} pixels: {reason}",
                "set data.size to a size that it was made for",
            ) from error
        finally:
            self.train()
            for handle in handles:
                handle.remove()
        if features.shape != (2, self.num_features):
            raise SettingsError(
                f"net.model: {options.model} gives features of shape {list(features.shape)}, not"
                f" [2, {self.num_features}]",
                "choose another model",
            )
        self.silent_layers = tuple(name for name in layers if name not in called)


def _build(options: Options, image_shape: Sequence[int]) -> nn.Module:
    models = import_torchvision().models
    known = list(models.list_models(module=models))
    arguments: dict[str, Any] = dict(options.arguments)
    if options.model.startswith(("vit_", "VisionTransformer")):
        if image_shape[1] != image_shape[2]:
            raise SettingsError(
                f"net.model: {options.model} takes square images, these are {image_shape[1]} x"
                f" {image_shape[2]}",
                f"set data.size={image_shape[1]}",
            )
        arguments.setdefault("image_size", image_shape[1])
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
    try:
        model: nn.Module = builder(num_classes=_NUM_CLASSES, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise SettingsError(
            f"net.arguments: {options.model}: {str(error).partition(chr(10))[0]}",
            "correct net.arguments, or data.size",
        ) from error
    return model


def _take_off_classifier(model: nn.Module, name: str) -> int:
    """Put the identity in place of the classifier and return the width of its input."""
    linears = [
        (path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)
    ]
    is_plain = bool(linears) and linears[-1][1].out_features == _NUM_CLASSES
    has_auxiliary = any(module.out_features == _NUM_CLASSES for _, module in linears[:-1])
    if not is_plain or has_auxiliary:
        raise SettingsError(
            f"net.model: {name} does not end in one linear classifier", "choose another model"
        )
    path, classifier = linears[-1]
    _put(model, path, nn.Identity())
    return classifier.in_features


def _load(model: nn.Module, weights: Mapping[str, torch.Tensor], options: Options) -> None:
    own = model.state_dict()
    wanted = {name for name in own if not name.endswith("num_batches_tracked")}
    given = {name: value for name, value in weights.items() if name in own}
    missing = sorted(wanted - given.keys())
    misfits = sorted(name for name, value in given.items() if value.shape != own[name].shape)
    if missing or misfits:
        wrong = (missing or misfits)[0]
        what = "lack" if missing else "have another shape of"
        raise SettingsError(
            f"net.pretrained: the weights {options.pretrained} {what} {wrong!r}"
            f" ({len(missing)} missing, {len(misfits)} of another shape)",
            f"they must be those of {options.model} with the same arguments and image size",
        )
    model.load_state_dict(given, strict=False)


def _with_watchable_attention(model: nn.Module) -> nn.Module:
    """Return the model with its attention replaced, values kept."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.MultiheadAttention):
            _put(model, name, SelfAttention.like(module, name=name))
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


def _replace_batch_norm(model: nn.Module, make_norm: MakeNorm) -> None:
    """Replace batch norm by ``TaskNorm``, scale and shift kept."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            norm = make_norm(module.num_features)
            norm.start_from(module.weight, module.bias, eps=module.eps)
            _put(model, name, norm)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
