"""``ness tune``."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.command_line import command_line
from ness_cli.cli.commands import study
from ness_cli.cli.session import session


def tune(
    context: typer.Context,
    file: study.File,
    overrides: options.Overrides = None,
    out: study.Out = None,
    on: study.On = "local",
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Trials. Default: the study's.", show_default=False),
    ] = None,
    seeds: study.Seeds = None,
    base: study.Base = None,
    jobs: study.Jobs = None,
    test: Annotated[
        bool,
        typer.Option("--test", help="At the end measure the choice, and only it, on test images."),
    ] = False,
    dry_run: study.DryRun = False,
    device: options.Device = "auto",
    threads: study.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Choose settings by validation images, and write them as a preset, OUT/chosen.yaml.

    The section search of FILE says which settings and values; Optuna draws them (TPE), and gives a
    trial up that lags behind the median of the others after a task. Typed again it goes on. Needs
    the extra "tune" of ness-cli.

    [dim]Example:[/dim]

      ness tune studies/tune-digits.yaml --out runs/tune --jobs 2

      ness run --preset runs/tune/chosen.yaml
    """
    from ness_cli.cli import run_study, tune_study
    from ness_cli.cli.targets import refuse_options

    with session(
        json=json, quiet=quiet, way_on=command_line(context), device=device, threads=threads
    ) as workplace:
        refuse_options(overrides or (), tune)
        request = run_study.Request(file, overrides or (), base, seeds, out, jobs=jobs, engine=on)
        if dry_run:
            tune_study.dry_run(request, workplace, trials=trials)
        else:
            tune_study.tune(request, workplace, trials=trials, tested=test)
