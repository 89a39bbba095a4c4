"""Flat minima by projected gradients (Yang et al. 2023): GPM with SAM and mixed images."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from ness_cli.settings.methods import gpm
from ness_cli.settings.sections import TrainSettings


class Options(gpm.Options):
    """Options of the method ``dfgp``: those of ``gpm``, and what makes the minimum flat."""

    threshold: gpm.EnergyThreshold = 0.95
    """Share of the inputs' energy that is protected after task 1: one for all layers, or a list in
    layer order. Published: 0.95, for miniImageNet 0.97."""
    threshold_increase: float = Field(default=0.0, ge=0)
    """Added to the threshold with every further task; the sum is capped at 1."""
    rho: float = Field(default=0.05, ge=0)
    """Length of the step uphill, along the gradient of all weights that train; 0 for none."""
    mixed_loss: float = Field(default=0.1, ge=0)
    """Factor w of the loss of mixed images beside that of plain ones. Published: 0.1, for
    5-Datasets 1e-4, for miniImageNet 0.01; 0 mixes nothing."""
    alpha: float = Field(default=20.0, gt=0)
    """Every image is mixed with another in a proportion drawn from Beta(alpha, alpha). Published:
    20, for 5-Datasets 1."""
    mixed_fraction: float = Field(default=1.0, gt=0, le=1)
    """Fraction of every batch that is mixed, drawn anew for each; less costs less, and estimates
    the same loss. Published: 1."""
    mix_rho: float = Field(default=0.05, ge=0)
    """Length of the step uphill of the proportions of a batch; none is made without ``rho``."""
    labels: Literal["matched", "swapped"] = "matched"
    """Weights of the two labels of a mixed image: ``matched`` are the proportions that it was mixed
    in. ``swapped``, as the authors' code has it, gives each label the mean proportion of the
    other's images."""

    def passes(self) -> int:
        """Return two, or one without a step uphill, of plain images, and as many of mixed ones."""
        of_batch = 1 + (self.mixed_fraction if self.mixed_loss else 0)
        return math.ceil((2 if self.rho else 1) * of_batch)

    def problems(self, train: TrainSettings) -> tuple[str, ...]:
        """Return that what the method does by itself is not done twice."""
        found = list(super().problems(train))
        if train.sam.tasks != "none":
            found.append(
                "train.sam.tasks: dfgp goes uphill by itself, by methods.dfgp.rho; use none"
            )
        if train.mixup:
            found.append("train.mixup: dfgp mixes by itself, by methods.dfgp.alpha; use 0")
        return tuple(found)
