"""Hard attention to the task (Serra et al. 2018): a task gates units, and keeps what it uses."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.methods.base import MethodOptions


class Options(MethodOptions):
    """Options of the method ``hat``."""

    sharpness: float = Field(default=400.0, ge=1)
    """How hard gates are when a task is used: s_max of sigmoid(s e), published 400. In training s
    rises from 1 / s_max to s_max in every epoch."""
    sparsity: float = Field(default=0.75, ge=0)
    """Factor c on the share of the units left that the task opens; published 0.75."""
    embedding_limit: float = Field(default=6.0, gt=0)
    """Embeddings e are clamped to plus and minus this after every step; published 6."""
    steepness_limit: float = Field(default=50.0, gt=0)
    """What s e is clamped to where gradients are made up for its steepness; published 50."""

    def keeps(self) -> str:
        """Return the gates."""
        return "an embedding per unit of every task"

    def needs_task(self) -> bool:
        """Return ``True``: every task has gates of its own."""
        return True
