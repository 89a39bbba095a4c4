"""Optimisers from settings. They are torch's own; what is ours is which parameters they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    if train.optimizer == "adam":
        return torch.optim.Adam(torch_groups, lr=train.lr)
    return torch.optim.SGD(torch_groups, lr=train.lr, momentum=train.momentum)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups, each times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
