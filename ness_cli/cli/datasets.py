"""``ness datasets``."""

from __future__ import annotations

from ness_cli.cli import options
from ness_cli.cli.session import session


def datasets(json: options.Json = False) -> None:
    """List the data sources and their options; choose one with data.source=NAME."""
    from ness_cli.cli.components import show_components
    from ness_cli.settings.sources.base import DatasetSettings

    with session(json=json) as (console, _stop):
        show_components(console, "ness_cli.settings.sources", "source", "data.", DatasetSettings)
