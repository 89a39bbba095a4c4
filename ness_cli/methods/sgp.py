"""SGP: GPM, with old directions slowed by their importance in place of closed.

The memory M of GPM carries an importance in [0, 1] for every direction. From the second task on

    G <- G - G M diag(importance) M^T,
    importance_i = (alpha + 1) s_i / (alpha s_i + max s),    s_i = ||m_i^T X||,

where X are the inputs of the task just learned. New directions start with their own; that of old
ones grows by what the new task adds, up to 1, so that SGP tends to GPM over many tasks.

Remembered: M, ``[d, k]`` per layer, and its importances.

Source: Saha, Roy, "Continual Learning with Scaled Gradient Projection", AAAI 2023. The authors find
s of old directions through a third decomposition; ||m_i^T X|| is the same number. Departures are
those of ``gpm``.
"""

from __future__ import annotations

import torch

from ness_cli.methods.files import Tensors
from ness_cli.methods.gpm import Gpm
from ness_cli.settings.methods.sgp import Options
from ness_cli.subspace.projection import Projector
from ness_cli.subspace.spectrum import Spectrum


class Sgp(Gpm):
    """Memory: ``memory`` (``<layer>.M`` as GPM's, ``<layer>.importance``, ``[k]`` float32)."""

    options: Options

    def start(self) -> None:
        """Begin with nothing protected."""
        super().start()
        self._importance: Tensors = {}

    def _kinds(self) -> dict[str, Tensors]:
        """Return what is remembered of layers, by the last part of its names in the file."""
        return {**super()._kinds(), "importance": self._importance}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of a memory that spans everything, with its importance."""
        return {"memory": sum(4 * d**2 + 4 * d for d in (x.dim for x in self.layers.values()))}

    def _projector(self, layer: str, device: torch.device) -> Projector:
        rest = self._rest.get(layer)
        return Projector.off(
            self._memory[layer].to(device),
            self._importance[layer].to(device),
            None if rest is None else rest.to(device),
        )

    def protect(self, layer: str, gram: torch.Tensor, found: Spectrum, theta: float) -> None:
        """Add the leading directions of new inputs, and what all directions mean to them."""
        super().protect(layer, gram, found, theta)
        old = self._importance.get(layer, torch.zeros(0))
        kept = importance(gram, self._memory[layer], self.options.scale_coefficient)
        # Old directions come first; theirs only grows.
        kept[: len(old)] = (kept[: len(old)] + old.double()).clamp(max=1)
        self._importance[layer] = kept.float()
        if layer in self._rest:
            num_slowed = int((self._importance[layer] < 1).sum())
            if self._rest[layer].shape[1] + num_slowed >= len(kept):
                del self._rest[layer]  # the slowed ones would go with them: no fewer columns

    def room(self, layer: str, gram: torch.Tensor) -> tuple[int, float]:
        """Return how many directions are not closed, and the share of energy that steps see."""
        memory, kept = self._memory[layer].double(), self._importance[layer].double()
        energies = torch.sum(memory * (gram @ memory), dim=0)
        total = float(gram.trace())
        seen = total - float(energies.sum()) + float((energies * (1 - kept).square()).sum())
        return len(gram) - int((kept >= 1).sum()), max(0.0, seen / total) if total > 0 else 0.0


def importance(gram: torch.Tensor, memory: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return how much each direction matters to some inputs.

    Args:
        gram: Gram matrix X^T X of the inputs, ``[d, d]`` float64.
        memory: M, orthonormal columns, ``[d, k]``.
        alpha: Scale coefficient.

    Returns:
        ``[k]`` float64 in [0, 1]; zeros if no direction carries anything.
    """
    m = memory.double()
    strength = torch.sum(m * (gram @ m), dim=0).clamp(min=0).sqrt()
    largest = float(strength.max()) if len(strength) else 0.0
    if largest == 0:
        return torch.zeros_like(strength)
    return (alpha + 1) * strength / (alpha * strength + largest)
