"""``ness export``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session


class Format(str, Enum):
    """What programs of other people read."""

    torch = "torch"


def export(
    run: options.Run,
    out: Annotated[
        Path, typer.Argument(help="The folder to write; it must not exist.", show_default=False)
    ],
    to: Annotated[Format, typer.Option(help="The format.", show_default=False)],
    task: Annotated[
        int | None,
        typer.Option(
            help="The task whose classes are told apart, from 1. Default: the last one trained.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="An image or a folder of images to compare logits on. Default: test images.",
            show_default=False,
        ),
    ] = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the model for programs that do not know ness, and check it by the run's own logits.

    OUT appears complete or not at all, with a README that says how to use it, what it was learned
    from, and how good it is.

    [bold]torch[/bold]: weights in safetensors; for models of torchvision and timm by the library's
    own names.

    [dim]Examples:[/dim]

      ness export runs/a out --to torch --task 3
    """
    from ness_cli.export.formats.all import FORMATS
    from ness_cli.run_dir import RunDir
    from ness_cli.stages.context import RunContext
    from ness_cli.stages.export import Request
    from ness_cli.stages.export import export as write

    with session(json=json, quiet=quiet, device="cpu", threads=threads) as workplace:
        request = Request(FORMATS[to.value](), out, task, images)
        exported = write(RunContext(RunDir(run), workplace), request)
        workplace.console.result(f"{out}: {exported.title}; {exported.checked}")
        workplace.console.document(exported.document())
