"""How far a newer model has drifted from an older one, on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ness_cli.numerics import in_float64


class Drift:
    """Relative change of every layer's inputs and of the logits, and of the predicted classes.

    The relative change is the root of sum ||new - old||^2 / sum ||old||^2 over all images. No bound
    on a layer covers it: what moves one layer moves the inputs of the next.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._squares: dict[str, tuple[float, float]] = {}
        self._logits = (0.0, 0.0)
        self._num_changed, self._num_images = 0, 0

    @torch.no_grad()
    def update(
        self,
        old: Mapping[str, torch.Tensor],
        new: Mapping[str, torch.Tensor],
        old_logits: torch.Tensor,
        new_logits: torch.Tensor,
    ) -> None:
        """Take in a batch.

        Args:
            old: Inputs of the older model's layers, by layer.
            new: Those of the newer one.
            old_logits: ``[n, num_classes]``.
            new_logits: ``[n, num_classes]``.
        """
        for layer, value in old.items():
            before = self._squares.get(layer, (0.0, 0.0))
            self._squares[layer] = _added(before, value, new[layer])
        self._logits = _added(self._logits, old_logits, new_logits)
        self._num_changed += int((old_logits.argmax(1) != new_logits.argmax(1)).sum())
        self._num_images += len(old_logits)

    def compute(self) -> dict[str, Any]:
        """Return the changes, fractions, and the share of predictions that changed, percent."""
        return {
            "layers": {layer: _relative(*squares) for layer, squares in self._squares.items()},
            "logits": _relative(*self._logits),
            "predictions_changed_percent": 100 * self._num_changed / max(1, self._num_images),
        }


def _added(
    squares: tuple[float, float], old: torch.Tensor, new: torch.Tensor
) -> tuple[float, float]:
    changed = float(in_float64(new - old).square().sum())
    return squares[0] + changed, squares[1] + float(in_float64(old).square().sum())


def _relative(changed: float, before: float) -> float:
    return (changed / before) ** 0.5 if before > 0 else 0.0
