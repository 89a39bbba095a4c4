"""``ness datasets``: what there is, and what is in a folder of your own."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import completion, options
from ness_cli.cli.datasets_group import SHOW, DatasetsGroup
from ness_cli.cli.session import session

app = typer.Typer(
    cls=DatasetsGroup,
    subcommand_metavar="[NAME | COMMAND [ARGS]...]",
)


@app.callback(invoke_without_command=True)
def datasets(context: typer.Context, json: options.Json = False) -> None:
    """List the data sources and their options, or explain one; choose one with data.source=NAME.

    [dim]Examples:[/dim]

      ness datasets

      ness datasets image-folder
    """
    if context.invoked_subcommand is None:
        show(None, json=json)


@app.command(SHOW)
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Explain this one.",
            autocompletion=completion.sources,
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Explain a data source with all its options; ness datasets NAME is the short form.

    [dim]Example:[/dim]

      ness datasets show npz
    """
    from ness_cli.cli.components import Components, show_components
    from ness_cli.settings.components import SOURCES
    from ness_cli.settings.sources.base import DatasetSettings

    with session(json=json) as workplace:
        found = Components("source", "datasets", SOURCES, "data.", DatasetSettings)
        show_components(workplace.console, found, name)


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
    from ness_cli.cli.image_check import check_images

    with session(json=json, quiet=quiet) as workplace:
        check_images(path, workplace)
