"""A network as one task uses it, made of modules of torch alone."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ness_cli.nets.backbones.base_converted import put
from ness_cli.nets.dropout import Dropout
from ness_cli.nets.multi_head import MultiHead
from ness_cli.nets.norm import TaskNorm


class PlainNetwork(nn.Module):
    """Backbone and one head; names in its state dict start with ``backbone.`` and ``head.``."""

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[n, num_classes]`` of normalised images ``[n, c, h, w]``."""
        logits: torch.Tensor = self.head(self.backbone(x))
        return logits


@torch.no_grad()
def plain_network(model: MultiHead, x: torch.Tensor) -> PlainNetwork:
    """Return a copy of a network as its selected task uses it, in evaluation mode.

    Normalisation of the task becomes batch norm with its statistics; the heads and statistics of
    other tasks are left out.

    Args:
        model: The network, in the view of the task.
        x: Some images as it takes them, ``[n, c, h, w]``.
    """
    kinds = _norm_kinds(model, x)
    backbone = copy.deepcopy(model.backbone)
    for name, module in list(backbone.named_modules()):
        if isinstance(module, TaskNorm):
            put(backbone, name, as_batch_norm(module, kinds[name]))
        elif isinstance(module, Dropout):
            put(backbone, name, nn.Dropout(module.p))
    network = PlainNetwork(backbone, copy.deepcopy(model.head(model.task)))
    return network.requires_grad_(False).eval()


def as_batch_norm(
    norm: TaskNorm, kind: type[nn.BatchNorm1d | nn.BatchNorm2d]
) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """Return torch's batch norm that computes as ``norm`` does for its selected task."""
    statistics = norm.statistics_of(norm.task)
    assert statistics is not None
    made = kind(norm.num_features, eps=norm.eps)
    values = (norm.scale[norm.affine_key], norm.shift[norm.affine_key], *statistics)
    goals = (made.weight, made.bias, made.running_mean, made.running_var)
    for goal, value in zip(goals, values, strict=True):
        assert goal is not None
        goal.data.copy_(value)
    return made


def is_hooked(model: MultiHead) -> bool:
    """Return whether modules of the backbone compute more than their own forward pass says."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in model.backbone.modules())


def _norm_kinds(
    model: MultiHead, x: torch.Tensor
) -> dict[str, type[nn.BatchNorm1d | nn.BatchNorm2d]]:
    """Return, by name, which batch norm takes what a normalisation layer does."""
    kinds: dict[str, type[nn.BatchNorm1d | nn.BatchNorm2d]] = {}

    def note(name: str, value: torch.Tensor) -> None:
        kinds[name] = nn.BatchNorm2d if value.dim() == 4 else nn.BatchNorm1d

    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: note(name, args[0]))
        for name, module in model.backbone.named_modules()
        if isinstance(module, TaskNorm)
    ]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return kinds
