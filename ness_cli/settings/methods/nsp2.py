"""Prompts of a vision transformer, moved where old images hardly see it (Lu et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.sections import TrainSettings


class Options(MethodOptions):
    """Options of the method ``nsp2``."""

    eta: float = Field(default=0.97, ge=0, le=1)
    """Share of both projections in a step, eta N + (1 - eta) I: 1 stays in the null spaces, 0 goes
    anywhere; 0.97 published for CIFAR-100 in ten tasks, 0.95 for twenty."""
    threshold: Literal["knee", "energy"] = "knee"
    """Where null spaces begin: at the ``knee`` of the spectrum, as published, or below the
    directions that hold all but a share ``eps1`` of the ``energy``. In narrow networks the knee
    comes after one or two directions, which protects little."""
    eps1: float = Field(default=0.01, ge=0, lt=1)
    """``energy``: the share of the energy that null spaces may hold."""
    projector: Literal["orthogonal", "published"] = "orthogonal"
    """N: the orthogonal projector onto the null space, or that divided by its Frobenius norm, as in
    the authors' code: a step inside is then shortened by the root of its dimension, and the part (1
    - eta) I outside is not."""
    drift_weight: float = Field(default=1.0, ge=0)
    """Factor of the penalty on changes of the prompts' means and deviations, which layer norm
    divides by (published)."""
    temperature: float = Field(default=1.0, gt=0)
    """Divisor of the logits in the loss; 28 and 25 published for CIFAR-100 in ten and twenty
    tasks."""
    prompt_lr_factor: float = Field(default=10.0, gt=0)
    """Factor on the learning rate of prompts; 1 published, at a rate of 0.01 for all that
    trains."""
    backbone: Literal["first-task", "frozen"] = "first-task"
    """Whether task 1 trains the whole network, or prompts and head only, as published: ``frozen``
    is for networks that start from pretrained weights."""

    @property
    def rule(self) -> str:
        """What puts the threshold into a spectrum."""
        return self.threshold if self.threshold == "knee" else f"{self.threshold} {self.eps1:g}"

    def keeps(self) -> str:
        """Return what the null spaces are taken from."""
        return "two covariances per attention block"

    def adjustments(self, train: TrainSettings) -> Mapping[str, Any]:
        """Return Adam: prompts between -1 and 1 are far away for SGD."""
        return {} if train.is_adaptive else {"optimizer": "adam", "lr": 1e-3}
