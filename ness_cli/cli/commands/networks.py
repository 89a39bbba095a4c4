"""``ness networks``."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import completion, options
from ness_cli.cli.session import session


def networks(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Explain this one.",
            autocompletion=completion.networks,
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """List the networks and their options, or explain one; choose one with net.name=NAME.

    [dim]Examples:[/dim]

      ness networks

      ness networks torchvision
    """
    from ness_cli.cli.components import Components, show_components
    from ness_cli.settings.components import NETS
    from ness_cli.settings.nets.base import NetSettings

    with session(json=json) as workplace:
        found = Components("network", "networks", NETS, "net.", NetSettings)
        show_components(workplace.console, found, name)
