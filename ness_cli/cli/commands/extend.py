"""``ness extend``."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session


def extend(
    run: options.Run,
    overrides: options.Overrides = None,
    preset: options.Preset = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the tasks that would be added; write nothing.")
    ] = False,
    undo: Annotated[
        bool,
        typer.Option(
            "--undo", help="Take back the last tasks added, as far as nothing was trained of them."
        ),
    ] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Append tasks to a run, from any images; nothing that was done changes.

    What is not typed is as the run was prepared: how images are brought to size, how long a task
    is trained. Only data.* and train.* may differ; with --preset the data of a preset is taken.
    data.num_tasks alone means the next tasks of the data set that the run was prepared with.

    Earlier tasks need not be finished, and their images may be gone when they are: their accuracies
    are not measured again then, and every table says so.

    [dim]Examples:[/dim]

      ness extend runs/a data.path=may.zip data.classes_per_task=4

      ness extend runs/a data.num_tasks=2 train.epochs=40

      ness extend runs/a --preset digits --dry-run

      ness extend runs/a --undo
    """
    from ness_cli.cli.extend_run import extend_run, take_back_tasks
    from ness_cli.cli.targets import refuse_options
    from ness_cli.errors import SettingsError

    way_on = f"ness extend {shlex.quote(str(run))}"
    with session(
        json=json, quiet=quiet, way_on=way_on, device=device, threads=threads
    ) as workplace:
        refuse_options(overrides or (), extend)
        if undo and (overrides or preset or dry_run):
            raise SettingsError(
                "--undo takes no settings, --preset or --dry-run", "leave one of them out"
            )
        if undo:
            take_back_tasks(run, workplace)
        else:
            extend_run(run, preset, overrides or (), workplace, dry_run=dry_run)
