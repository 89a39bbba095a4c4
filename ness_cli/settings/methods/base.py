"""What every method lets the user set."""

from __future__ import annotations

from ness_cli.settings.base import Section


class MethodOptions(Section):
    """Options of a method; a method without options has none."""
