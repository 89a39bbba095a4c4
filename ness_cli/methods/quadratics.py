"""A sum of quadratic pulls on parameters, of all earlier tasks together, in three sums."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ness_cli.methods.files import Tensors

_SUMS = ("weight", "center", "rest")


class Quadratics:
    """sum_j F_j (b - b_j)^2 = F (b - m)^2 + r for parameters b, elementwise.

    Three numbers for every entry of b, however many tasks j there are.

    Args:
        tensors: F, m and r of every parameter: ``<name>.weight``, ``.center`` and ``.rest``.
    """

    def __init__(self, tensors: Tensors | None = None) -> None:
        self.tensors: Tensors = dict(tensors or {})
        self._pulled: list[tuple[nn.Parameter, Tensors]] = []

    def hold(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Look up what pulls parameters, by name: the sum is part of every step."""
        self._pulled = [
            (p, {key: self.tensors[f"{name}.{key}"].to(p.device) for key in _SUMS})
            for name, p in parameters.items()
            if f"{name}.weight" in self.tensors
        ]

    def value(self) -> torch.Tensor | None:
        """Return the sum over what is held, a scalar; ``None`` where nothing is."""
        if not self._pulled:
            return None
        return torch.stack(
            [
                (of["weight"] * (b - of["center"]).square() + of["rest"]).sum()
                for b, of in self._pulled
            ]
        ).sum()

    def add(self, name: str, weight: torch.Tensor, center: torch.Tensor) -> None:
        """Add a task.

        Args:
            name: Of the parameter.
            weight: F_j, of its shape, not negative.
            center: b_j, of its shape.
        """
        f, b = weight.detach().cpu(), center.detach().cpu()
        keys = [f"{name}.{key}" for key in _SUMS]
        old, mean, rest = (self.tensors.get(key, torch.zeros_like(f)) for key in keys)
        total, away = old + f, b - mean
        share = torch.where(total > 0, f / total, 1.0)
        self.tensors |= {
            keys[0]: total,
            keys[1]: mean + share * away,
            keys[2]: rest + old * share * away.square(),
        }
