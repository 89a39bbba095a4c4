"""Train every task on from the last, protecting nothing: the lower end of every comparison."""

from __future__ import annotations

from ness_cli.settings.methods.base import MethodOptions


class Options(MethodOptions):
    """``finetune`` has no options."""
