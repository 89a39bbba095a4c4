"""``ness settings``."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import completion, options
from ness_cli.cli.session import session


def settings(
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="SECTION|KEY",
            help="Explain the settings of this section, or this one.",
            autocompletion=completion.settings,
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """List all settings, or explain those of a section, or one: type, default, meaning.

    Any of them is changed with KEY=VALUE in run, prepare and reproduce, or in a preset.

    [dim]Examples:[/dim]

      ness settings

      ness settings train

      ness settings train.lr
    """
    from ness_cli.cli.components import explain_settings

    with session(json=json) as opened:
        explain_settings(opened.console, key)
