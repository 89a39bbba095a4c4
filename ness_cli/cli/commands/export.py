"""``ness export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ness_cli.cli import completion, options
from ness_cli.cli.session import session


def export(
    run: options.Run,
    out: Annotated[
        Path, typer.Argument(help="The folder to write; it must not exist.", show_default=False)
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="The format, by one of the names above.",
            show_default=False,
            autocompletion=completion.formats,
        ),
    ],
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
    one_rank: Annotated[
        bool,
        typer.Option("--one-rank", help="peft: give every layer the same rank, padded with zeros."),
    ] = False,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the model for programs that do not know ness, and check it by the run's own logits.

    OUT appears complete or not at all, with a README that says how to use it, what it was learned
    from, and how good it is.

    [bold]torch[/bold]: weights in safetensors; for models of torchvision and timm by the library's
    own names. [bold]onnx[/bold], [bold]pt2[/bold]: from pixels to probabilities, for onnxruntime
    and for torch.export. [bold]merged[/bold]: as pt2, all tasks, told for every image.
    [bold]peft[/bold]: what tasks 2 to T added, a LoRA adapter on the network after task 1.

    [dim]Examples:[/dim]

      ness export runs/a out --to onnx --task 3
    """
    from ness_cli import registry
    from ness_cli.run_dir import RunDir
    from ness_cli.stages.context import RunContext
    from ness_cli.stages.export import Request
    from ness_cli.stages.export import export as write

    with session(json=json, quiet=quiet, device="cpu", threads=threads) as workplace:
        form = registry.load_class("ness_cli.export.formats", to, setting="--to")
        request = Request(form(one_rank=one_rank), out, task, images)
        exported = write(RunContext(RunDir(run), workplace), request)
        workplace.console.result(f"{out}: {exported.title}; {exported.checked}")
        workplace.console.document(exported.document())
