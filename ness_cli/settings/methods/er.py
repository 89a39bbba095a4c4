"""Experience replay (Chaudhry et al. 2019): train on some stored images of old tasks again."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.methods.base_replay import ReplayOptions


class Options(ReplayOptions):
    """Options of the method ``er``."""

    replay_batch: int | None = Field(default=None, ge=1)
    """Stored images in every step; as many as ``train.batch_size`` when absent, as published."""
    replay_weight: float = Field(default=0.5, ge=0, le=1)
    """What their mean loss counts for, and the batch's mean loss the rest; 0.5 is the mean over
    both batches of the authors where they are of one size."""
    mix_tasks: bool = False
    """``true``: the stored images of a step are drawn from all tasks, as published; every task in
    it makes a forward pass of its own. ``false``: all are of one task, drawn by how many images it
    has: the same in the mean, faster, and better for normalisation by batches."""
