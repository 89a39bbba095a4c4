"""``ness predict``."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session


def predict(
    run: options.Run,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Images, folders, zip or tar archives, patterns; - for a list on stdin, a name in"
            " every line or, as find -print0 writes it, before every NUL.",
            show_default=False,
        ),
    ],
    task: Annotated[
        int | None,
        typer.Option(help="The task that the images belong to, from 1.", show_default=False),
    ] = None,
    any_task: Annotated[
        bool,
        typer.Option("--any-task", help="The task is not known: all classes compete. The default."),
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="Candidates for each image, at most.")] = 3,
    csv: Annotated[
        bool, typer.Option("--csv", help="Lines of file, label, task, confidence on stdout.")
    ] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Recognise images with the model after the last task that is trained.

    Images are decoded and resized as the run's own were. In folders named after classes they are
    counted: accuracy and confusions; images of classes that are not asked for are counted apart. A
    file that cannot be read is named and left out; the exit code is 4 then, with all other results.

    [dim]Examples:[/dim]

      ness predict runs/a new.png

      ness predict runs/a photos/ --task 2 --csv > found.csv

      find photos -name '*.jpg' | ness predict runs/a - --json
    """
    from ness_cli.cli.predict_images import predict_images
    from ness_cli.errors import SettingsError

    with session(json=json, quiet=quiet, device=device, threads=threads) as workplace:
        both = "--task and --any-task" if task is not None and any_task else ""
        both = both or ("--csv and --json" if csv and json else "")
        if both:
            raise SettingsError(f"{both} exclude each other", "give one of them")
        if task is None and not any_task:
            workplace.console.note("without --task all classes compete, as with --any-task")
        predict_images(workplace, run, paths, task=task, top=top, has_csv=csv)
