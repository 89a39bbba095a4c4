"""``ness prepare``."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session
from ness_cli.errors import SettingsError


def prepare(
    overrides: options.Overrides = None,
    preset: options.Preset = None,
    out: options.Out = None,
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show settings, task counts and disk need; write nothing."),
    ] = False,
    verify_data: options.VerifyData = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Resolve the settings, prepare and cache the images, write the run's identity.

    Settings come from defaults < preset < file < KEY=VALUE. Images are prepared once and shared by
    all runs, in the folder that NESS_CACHE names, else in your cache folder. The device is only
    checked: every later step chooses its own.

    A run that was prepared goes on with the images in the cache, and its source may be gone.
    Another data.path is compared with what it was prepared from; --verify-data compares in any
    case.

    [dim]Examples:[/dim]

      ness prepare --preset digits --out runs/a

      ness prepare --preset digits --out runs/b method.name=gpm train.lr=0.05

      ness prepare --preset digits --dry-run
    """
    from ness_cli.cli.dry_run import show_plan
    from ness_cli.cli.prepare_targets import prepare_targets
    from ness_cli.cli.targets import refuse_options, targets

    with session(json=json, quiet=quiet, device=device, threads=threads) as workplace:
        if dry_run and verify_data:
            raise SettingsError(
                "--dry-run and --verify-data exclude each other", "leave one of them out"
            )
        refuse_options(overrides or (), prepare)
        found = targets(
            *(preset, out), seed=seed, seeds=seeds, overrides=overrides or (), may_rebuild=True
        )
        if dry_run:
            show_plan(found, workplace.console)
        else:
            prepare_targets(found, workplace, verify_data=verify_data)
