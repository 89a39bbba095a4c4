"""``ness networks``."""

from __future__ import annotations

from ness_cli.cli import options
from ness_cli.cli.session import session


def networks(json: options.Json = False) -> None:
    """List the networks and their options; choose one with net.name=NAME."""
    from ness_cli.cli.components import show_components
    from ness_cli.settings.nets.base import NetSettings

    with session(json=json) as (console, _stop):
        show_components(console, "ness_cli.settings.nets", "network", "net.", NetSettings)
