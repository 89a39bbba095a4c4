"""The output layers of a network, made when they are asked for.

The training of a task uses its own head. In a chain of a thousand tasks the others, made as
modules, would take several times as long as the task does; they wait as weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import nn


class Heads(nn.ModuleDict):
    """Linear layers without bias, by key: a module where one was asked for, else a weight.

    State dict keys: ``<key>.weight``, ``[num_classes, num_features]``, of all of them. Modules and
    parameters are those of heads that were asked for, in the order in which heads were added.

    Args:
        num_features: Width of their inputs.

    Attributes:
        train_when_made: Whether a head that is asked for from now on trains.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.train_when_made = True
        self._waiting: dict[str, torch.Tensor] = {}

    def add(self, key: str, num_classes: int, device: torch.device) -> None:
        """Make a new head on a device; draws from torch's default RNG on the CPU."""
        self[key] = nn.Linear(self.num_features, num_classes, bias=False).to(device)

    def put(self, key: str, weight: torch.Tensor) -> None:
        """Add a head that waits; its weight is copied when it is asked for."""
        self._modules[key] = None  # type: ignore[assignment]  # keeps its place among the others
        self._waiting[key] = weight

    def waits(self, key: str) -> bool:
        """Return whether a head is a weight, and no module yet."""
        return key in self._waiting

    def make(self, key: str, device: torch.device) -> None:
        """Make a head that waits, on a device; draws nothing."""
        weight = self._waiting.pop(key).to(device, copy=True)
        num_classes, num_features = weight.shape
        head = nn.Linear(num_features, num_classes, bias=False, device="meta")
        head.weight = nn.Parameter(weight, requires_grad=self.train_when_made)
        self[key] = head.train(self.training)

    def weights(self) -> Iterator[torch.Tensor]:
        """Yield the weights of all heads, whether they wait or not."""
        return chain(self._waiting.values(), self.parameters())

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({f"{prefix}{key}.weight": w for key, w in self._waiting.items()})
