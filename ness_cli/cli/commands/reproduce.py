"""``ness reproduce``."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.command_line import command_line
from ness_cli.cli.session import session


def reproduce(
    context: typer.Context,
    preset: options.PresetName,
    overrides: options.Overrides = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Three tasks, 20 images a class, 2 epochs, one seed: a smoke test."
        ),
    ] = False,
    seeds: options.Seeds = None,
    out: options.OutOfSeeds = None,
    jobs: options.NumJobs = 1,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run a preset's seeds and compare with the published result.

    ACC passes within the preset's tolerance (1 point; miniImageNet 3) or twice the standard error
    of the difference, BWT within 1 point; a single seed within 3 points is consistent. A result
    above the published one by more is better, one below it falls short. Seeds that are done are
    skipped. The verdict is written to OUT/reproduction.json; exit code 3 if a result falls short.

    [dim]Examples:[/dim]

      ness reproduce cifar100-alexnet-ness-sgdm-parity

      ness reproduce cifar100-alexnet-gpm --seeds 1 data.source=image-folder data.path=cifar100.zip

      ness reproduce pmnist-mlp-gpm --quick
    """
    from ness_cli.cli.reproduce_preset import Request, reproduce_preset
    from ness_cli.cli.targets import refuse_options

    way_on = command_line(context)
    with session(
        json=json, quiet=quiet, way_on=way_on, device=device, threads=threads
    ) as workplace:
        refuse_options(overrides or (), reproduce)
        request = Request(preset, overrides or (), seeds, out, quick)
        if reproduce_preset(request, workplace, jobs).falls_short:
            raise typer.Exit(3)
