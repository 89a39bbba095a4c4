"""Trust region gradient projection (Lin et al. 2022): reuse related old tasks by scaling."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ness_cli.settings.methods import gpm


class Options(gpm.Options):
    """Options of the method ``trgp``: those of ``gpm``, and which old tasks are scaled."""

    relevance: float = Field(default=0.5, ge=0)
    """An old task is related to the new one, in a layer, if more than this share of the norm of the
    first gradient lies in its subspace. Published: 0.5, for permuted MNIST 0.2."""
    most_related: int = Field(default=2, ge=0)
    """Old tasks whose subspaces a layer may scale, the most related first; 0 scales nothing."""
    gradient_samples: int = Field(default=125, ge=1)
    """Training images of the new task that its first gradient is taken from. Published: 125 for
    AlexNet and LeNet, 500 for ResNet18, 300 for the MLP."""
    scaling_lr: float = Field(default=0.1, gt=0)
    """Factor on the learning rate of the scalings. Published: 1, at a rate of 0.01 without
    momentum; with the tenfold steps of momentum 0.9 that diverges."""
    scaled_layers: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("*",)
    """Layers that may scale, by name, ``*`` allowed. The authors leave out the linear layers of
    LeNet and the shortcuts of ResNet18."""

    def keeps(self) -> str:
        """Return what is protected and what is scaled."""
        return "leading directions of every layer; of every task which it uses, and scalings"

    def needs_task(self) -> bool:
        """Return whether tasks scale, each with matrices of its own."""
        return self.most_related > 0
