"""Low-rank updates with equal singular values, off protected directions (Gu et al. 2026)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.sections import TrainSettings

_HEAD_EPOCHS = 3


class Options(MethodOptions):
    """Options of the method ``eblora``."""

    rank: int = Field(default=16, ge=1)
    """Directions of every layer's update, at most; 16 and 32 in the authors' experiments."""
    scaling: float = Field(default=1.0, gt=0)
    """Factor alpha / r on every update. The authors' 2 and 5 belong to their learning rates."""
    initial_scale: float = Field(default=0.0, ge=0)
    """Size of the singular values that the first layer's update starts from, against the gradient:
    0, or 0.002 with a slope of 0.006, in the authors' experiments."""
    initial_scale_slope: float = Field(default=0.0, ge=0)
    """Added to it from the first layer to the last, in even steps."""
    scale_lr_factor: float = Field(default=1.0, gt=0)
    """Factor on the learning rate of the singular values."""
    energy: float = Field(default=0.99, gt=0, le=1)
    """Share of a task's energy that later updates keep off (published)."""
    memory: Literal["gradient", "activation"] = "gradient"
    """Whose leading directions are protected: those of the task's mean ``gradient``, as published,
    or of the layer's inputs (``activation``), as in GPM."""
    gradient_fraction: float = Field(default=0.2, gt=0, le=1)
    """Share of the task's training images, evenly spaced, that gradients and inputs are taken from
    (published)."""
    step: Literal["tangent", "published"] = "tangent"
    """How a step on the factors is brought back: through the orthogonal projection onto the tangent
    space, sized for ``step_width``; ``published`` repeats the authors' code, whose projection
    doubles rotations and whose size grows as the rank falls."""
    step_width: int | None = Field(default=None, ge=1)
    """Rows of a factor for which the optimiser's step is left at its size; a factor of n rows turns
    by sqrt(step_width / n) of it, through about the same angle. 256 by default for ``tangent``;
    ``published`` divides by the rank, and has 4096."""
    first_task: Literal["dense", "low-rank"] = "dense"
    """How task 1 is learned: by training the whole network, which is then what updates are added
    to, or ``low-rank`` like every task, for networks that start from pretrained weights."""

    def in_effect(self) -> dict[str, Any]:
        """Return the width in effect."""
        return {"step_width": self.width} if self.step_width is None else {}

    @property
    def width(self) -> int:
        """Rows of a factor for which the optimiser's step is left at its size."""
        default = 256 if self.step == "tangent" else 4096
        return default if self.step_width is None else self.step_width

    def keeps(self) -> str:
        """Return what is protected."""
        of = "gradients" if self.memory == "gradient" else "inputs"
        return f"leading directions of every layer's {of}"

    def adjustments(self, train: TrainSettings) -> Mapping[str, Any]:
        """Return AdamW with a warm-up and clipping, and epochs for the head alone."""
        found: dict[str, Any] = {}
        if train.optimizer != "adamw":
            found = {"optimizer": "adamw", "lr": 1e-3, "warmup": 0.03, "clip_norm": 1.0}
        if train.head_epochs == 0 and train.epochs > 1:
            # Otherwise the gradient that updates start from is that of a random head.
            found["head_epochs"] = min(_HEAD_EPOCHS, train.epochs - 1)
        return found

    def problems(self, train: TrainSettings) -> tuple[str, ...]:
        """Return that weights are not averaged: a mean of factors has no equal singular values."""
        if train.average:
            return ("train.average: averages of factors are no factors for eblora; set it to 0",)
        return ()

    def way_to_open(self) -> str:
        """Return that less is to be protected."""
        return "lower methods.eblora.energy"
