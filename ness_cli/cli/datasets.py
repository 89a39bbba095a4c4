"""``ness datasets``: what there is, and what is in a folder of your own."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session

app = typer.Typer(help="List the data sources and their options; choose one with data.source=NAME.")


@app.callback(invoke_without_command=True)
def datasets(context: typer.Context, json: options.Json = False) -> None:
    """List the data sources and their options; choose one with data.source=NAME."""
    if context.invoked_subcommand is not None:
        return
    from ness_cli.cli.components import show_components
    from ness_cli.settings.sources.base import DatasetSettings

    with session(json=json) as (console, _stop):
        show_components(console, "ness_cli.settings.sources", "source", "data.", DatasetSettings)


@app.command("check")
def check(
    path: Annotated[
        str, typer.Argument(help="A folder, zip or tar of images.", show_default=False)
    ],
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Decode all images of a folder, zip or tar; count them, and find bad and repeated ones.

    Two images are the same if their pixels are, however they are stored. Exits with 4 if anything
    would keep the images from being prepared.

    [dim]Examples:[/dim]

      ness datasets check leaves

      ness datasets check leaves.zip --json
    """
    from ness_cli.cli.checking import check_images

    with session(json=json, quiet=quiet) as (console, stop):
        check_images(path, console, stop)
