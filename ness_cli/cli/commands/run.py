"""``ness run``."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.command_line import command_line
from ness_cli.cli.session import session


def run(
    context: typer.Context,
    overrides: options.Overrides = None,
    preset: options.Preset = None,
    out: options.Out = None,
    until: Annotated[
        int | None, typer.Option(help="Stop after this task.", show_default=False)
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Make finished steps anew whose files are gone or not what they were."
        ),
    ] = False,
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    jobs: options.NumJobs = 1,
    verify_data: options.VerifyData = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Do it all: prepare, then train, build and evaluate every task, then report.

    What is done is skipped, so the same command goes on after a kill, and ends with the same bits.
    Finished work is never overwritten unasked: see --force.

    Without --preset the default preset [bold]digits[/bold] runs: seconds, nothing to download. A
    data.path of your own, or another data.source, starts from the preset [bold]images[/bold].

    [dim]Examples:[/dim]

      ness run

      ness run data.path=leaves data.test_fraction=0.2

      ness run --preset digits --out runs/ft method.name=finetune

      ness run --preset digits --out runs/a --until 3

      ness run --preset digits --out runs/many --seeds 1,2,3 --jobs 2
    """
    from ness_cli.cli.run_targets import Extent, run_targets
    from ness_cli.cli.targets import refuse_options, targets

    way_on = command_line(context)
    with session(
        json=json, quiet=quiet, way_on=way_on, device=device, threads=threads
    ) as workplace:
        refuse_options(overrides or (), run)
        found = targets(preset, out, seed=seed, seeds=seeds, overrides=overrides or ())
        extent = Extent(until, jobs=jobs, force=force, verify_data=verify_data)
        document = run_targets(found, workplace, extent)
        workplace.console.document(document)
        commands = [each["next"] for each in document["runs"]]
        if len(found) > 1 and all(text.startswith("ness report ") for text in commands):
            # All seeds together, which is what shows their mean.
            commands.append(f"ness report {shlex.quote(str(found[0].run.path.parent))}")
        workplace.console.next(commands[-1])
