"""``ness methods``."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import completion, options
from ness_cli.cli.session import session


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Explain this one.",
            autocompletion=completion.methods,
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """List the methods and what they cost, or explain one; choose one with method.name=NAME.

    [dim]Examples:[/dim]

      ness methods

      ness methods ness
    """
    from ness_cli.cli.components import show_components
    from ness_cli.cli.method_facts import Methods
    from ness_cli.settings.components import METHODS

    with session(json=json) as workplace:
        found = Methods("method", "methods", METHODS, "methods.{name}.")
        show_components(workplace.console, found, name)
