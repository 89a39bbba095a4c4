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
    onnx = "onnx"
    pt2 = "pt2"
    merged = "merged"
    peft = "peft"


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
    from ness_cli.errors import SettingsError
    from ness_cli.export.formats.all import FORMATS
    from ness_cli.export.formats.peft import Peft
    from ness_cli.run_dir import RunDir
    from ness_cli.stages.context import RunContext
    from ness_cli.stages.export import Request
    from ness_cli.stages.export import export as write

    with session(json=json, quiet=quiet, device="cpu", threads=threads) as workplace:
        if one_rank and to is not Format.peft:
            raise SettingsError(f"--one-rank: --to {to.value} has no ranks", "leave it out")
        if task is not None and to is Format.merged:
            raise SettingsError("--task: --to merged holds all tasks", "leave it out")
        form = Peft(one_rank=one_rank) if to is Format.peft else FORMATS[to.value]()
        request = Request(form, out, task, images)
        exported = write(RunContext(RunDir(run), workplace), request)
        workplace.console.result(f"{out}: {exported.title}; {exported.checked}")
        workplace.console.document(exported.document())
