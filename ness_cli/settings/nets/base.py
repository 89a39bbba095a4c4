"""What every network lets the user set."""

from __future__ import annotations

from typing import Literal

from ness_cli.settings.base import Section


class NetSettings(Section):
    """A network: a backbone and its heads."""

    name: str
    """A network of ``ness_cli/nets/backbones``."""
    heads: Literal["per-task", "shared"] = "per-task"
    """One output layer per task, or one for all; a shared one is protected like every layer."""
