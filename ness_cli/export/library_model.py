"""A converted model as its library has it: values put back under the library's own names."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ness_cli.export.plain_network import PlainNetwork
from ness_cli.nets.attention import SelfAttention
from ness_cli.nets.backbones.base_converted import ConvertedModel


@torch.no_grad()
def as_library_model(network: PlainNetwork) -> nn.Module:
    """Return the library's own model with the weights of a plain network, in evaluation mode.

    A bias that the library's classifier has, and ours has not, is zero.

    Args:
        network: A plain network whose backbone is a converted model without prompts.
    """
    backbone, head = network.backbone, network.head
    assert isinstance(backbone, ConvertedModel)
    made = backbone.remade(head.out_features)
    ours = dict(backbone.model.named_modules())
    for name, module in made.named_modules():
        own = ours.get(name)
        if isinstance(module, nn.Linear) and not isinstance(own, nn.Linear):
            _fill_classifier(module, head)
        elif isinstance(own, SelfAttention):
            _fill_attention(module, own)
        elif own is not None:
            # Some norms drop and activate too: ours stand first in a sequence of their own.
            is_norm = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
            source = own[0] if is_norm and isinstance(own, nn.Sequential) else own
            _fill(module, source)
    return made.requires_grad_(False).eval()


def code_of(origin: dict[str, Any]) -> str:
    """Return the Python expression that makes a library's model.

    Args:
        origin: What ``ConvertedModel.origin`` returns.
    """
    arguments = ", ".join(f"{k}={_value(k, v)}" for k, v in origin["arguments"].items())
    if origin["library"] == "timm":
        return f"timm.create_model({origin['model']!r}, {arguments})"
    return f"torchvision.models.{origin['model']}({arguments})"


def _value(key: str, value: Any) -> str:
    return f"torchvision.models.resnet.{value}" if key == "block" else repr(value)


def _fill_classifier(module: nn.Linear, head: nn.Linear) -> None:
    module.weight.copy_(head.weight)
    if module.bias is not None:
        module.bias.zero_()


def _fill_attention(module: nn.Module, own: SelfAttention) -> None:
    """Copy the projection into queries, keys and values; the one out of them is a layer inside."""
    assert isinstance(module, nn.MultiheadAttention)
    assert module.in_proj_weight is not None
    module.in_proj_weight.copy_(own.in_proj.weight)
    if module.in_proj_bias is not None:
        module.in_proj_bias.copy_(own.in_proj.bias)


def _fill(module: nn.Module, own: nn.Module) -> None:
    """Copy the values that a module has itself, not those of the modules inside."""
    for key, value in (
        *module.named_parameters(recurse=False),
        *module.named_buffers(recurse=False),
    ):
        value.copy_(getattr(own, key))
