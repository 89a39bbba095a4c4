"""Flattening sharpness for dynamic GPM (Deng et al. 2021): go uphill in old subspaces, replay."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ness_cli.settings.methods.base_replay import ReplayOptions
from ness_cli.settings.methods.base_sgd import SgdOptions
from ness_cli.settings.sections import TrainSettings


class Options(SgdOptions, ReplayOptions):
    """Options of the method ``fs-dgpm``: those of an episodic memory, and its own."""

    memory: int = Field(default=1000, ge=1)
    """Training images stored of all earlier tasks together, at most. Published: 1000."""
    selection: Literal["balanced", "reservoir"] = "reservoir"
    """Which images are stored: equally many of every class of every task, drawn at random, or a
    uniform sample of all that were seen (``reservoir``, as published)."""
    replay_batch: int | None = Field(default=None, ge=1)
    """Stored images in every step, of one earlier task; as many as ``train.batch_size`` when
    absent, as published."""
    threshold: float = Field(default=0.97, gt=0, le=1)
    """Share of the energy of stored images' layer inputs that is protected after task 1."""
    threshold_increase: float = Field(default=0.003, ge=0)
    """Added to the threshold with every further task; the sum is capped at 1."""
    samples: int | None = Field(default=125, ge=1)
    """Stored images whose layer inputs the protected directions are taken from, of all tasks; all
    of them when absent. Published: 125."""
    inner_steps: int = Field(default=2, ge=1)
    """Parts of a batch; each takes a step uphill, one after another, and the loss is taken after
    every one of them. Published: 2."""
    ascent_lr: float = Field(default=0.001, ge=0)
    """Rate of the steps uphill. Published: 0.001, for superclasses 0.01. It drops as the learning
    rate does with ``train.schedule=plateau``."""
    second_order: bool = False
    """Take gradients through the steps uphill, as published; dearer by a half."""
    soft: Literal["learned", "fixed"] = "learned"
    """``learned``: every protected direction has a weight sigmoid(10 z), z from 1 on in every task,
    that is trained along: the paper's. ``fixed``: weight 1, which the authors' code amounts to."""
    soft_lr: float = Field(default=1.0, gt=0)
    """``learned``: factor on the learning rate of z. Published: 1."""
    gradient_clip: float | None = Field(default=2.0, gt=0)
    """Scale gradients of the network, and those of z, down to this norm before they are projected;
    no entry of a gradient uphill is larger. Published: 2."""

    def passes(self) -> int:
        """Return one for the parts of a batch, and after each of them one more with replay."""
        return 1 + 2 * self.inner_steps

    def keeps(self) -> str:
        """Return the images and what is protected."""
        return f"leading directions of every layer, and {super().keeps()}"

    def problems(self, train: TrainSettings) -> tuple[str, ...]:
        """Return that what the method does by itself is not done twice, and that it needs SGD."""
        found = list(super().problems(train))
        if train.sam.tasks != "none":
            found.append(
                "train.sam.tasks: fs-dgpm goes uphill by itself, by methods.fs-dgpm.ascent_lr; use"
                " none"
            )
        if train.mixup:
            found.append("train.mixup: fs-dgpm divides batches, and mixes none; use 0")
        return tuple(found)

    def way_to_open(self) -> str:
        """Return that less is to be protected."""
        return "lower methods.fs-dgpm.threshold or methods.fs-dgpm.threshold_increase"
