"""L2-SP (Li et al. 2018): pull every weight back to where the task found it, all alike."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.methods.base import MethodOptions


class Options(MethodOptions):
    """Options of the method ``l2-sp``."""

    strength: float = Field(default=0.1, ge=0)
    """Factor alpha of the penalty (alpha / 2) ||theta - theta*||^2; the authors searched from 1e-3
    to 1."""
    head_decay: float = Field(default=0.01, ge=0)
    """Factor beta of the penalty (beta / 2) ||head||^2 on the head of the task, which has nowhere
    to be pulled back to; the authors' value."""
