"""Train on the data of all tasks seen so far: an upper end that keeps all old data."""

from __future__ import annotations

from ness_cli.settings.methods.base import MethodOptions


class Options(MethodOptions):
    """``joint`` has no options."""
