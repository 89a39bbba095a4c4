"""``ness methods``."""

from __future__ import annotations

from ness_cli.cli import options
from ness_cli.cli.session import session


def methods(json: options.Json = False) -> None:
    """List the methods and their options; choose one with method.name=NAME."""
    from ness_cli.cli.components import show_components

    with session(json=json) as (console, _stop):
        show_components(console, "ness_cli.settings.methods", "method", "methods.{name}.")
