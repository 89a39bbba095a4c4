"""Optimisers from settings. They are torch's own; what is ours is which parameters they get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ness_cli.settings.sections import TrainSettings


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are stepped alike.

    Attributes:
        parameters: By name; the names are those of checkpoints.
        weight_decay: L2 decay toward zero; the setting's value when ``None``.
        lr_factor: Factor on the learning rate.
    """

    parameters: Mapping[str, nn.Parameter]
    weight_decay: float | None = None
    lr_factor: float = 1.0


def divided(
    parameters: Mapping[str, nn.Parameter], *groups: Iterable[nn.Parameter]
) -> list[dict[str, nn.Parameter]]:
    """Return those of some named parameters that each group has, and last the rest.

    Args:
        parameters: By name; their order is kept.
        groups: Parameters; one that several have belongs to the first of them.
    """
    owners: dict[int, int] = {}
    for number, group in enumerate(groups):
        for parameter in group:
            owners.setdefault(id(parameter), number)
    found: list[dict[str, nn.Parameter]] = [{} for _ in range(len(groups) + 1)]
    for name, parameter in parameters.items():
        found[owners.get(id(parameter), -1)][name] = parameter
    return found


def make_optimizer(groups: Sequence[ParameterGroup], train: TrainSettings) -> torch.optim.Optimizer:
    """Return the optimiser of one task; groups without parameters are left out."""
    torch_groups = [
        {
            "params": list(group.parameters.values()),
            "weight_decay": train.weight_decay
            if group.weight_decay is None
            else group.weight_decay,
            "lr": train.lr * group.lr_factor,
            "lr_factor": group.lr_factor,
        }
        for group in groups
        if group.parameters
    ]
    if train.is_adaptive:
        is_decoupled = train.optimizer == "adamw"
        kind = torch.optim.AdamW if is_decoupled else torch.optim.Adam
        return kind(torch_groups, lr=train.lr)
    # Momentum, decay and step in one pass over the weights; the same bits as the plain step.
    kinds = {parameter.device.type for group in groups for parameter in group.parameters.values()}
    can_fuse = kinds <= {"cpu", "cuda"}
    optimizer = torch.optim.SGD(torch_groups, lr=train.lr, momentum=train.momentum, fused=can_fuse)
    if train.momentum:
        # Zeros are what it starts from anyway; the fused step needs all of them or none, and heads
        # of tasks that are not in a batch have no gradient.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    optimizer.register_step_pre_hook(_lay_gradients_out_like_parameters)
    return optimizer


@torch.no_grad()
def _lay_gradients_out_like_parameters(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Copy gradients whose memory is in another order than their parameter's.

    The fused step on a CPU walks through memory and does not look at strides.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is not None and gradient.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(gradient)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups, each times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
