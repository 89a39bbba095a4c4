"""``ness fork``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session


def fork(
    run: options.Run,
    overrides: options.Overrides = None,
    after: Annotated[
        int, typer.Option("--after", help="The last task whose training is shared.")
    ] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", help="The new run folder.", show_default=False)
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make another run that shares the first tasks of a run, and goes on by itself.

    What is shared is not trained again: its files are hard links, or copies. A fork ends with the
    tensors of a run that was prepared with its settings, so a setting that decides a shared step is
    refused. Options that a method reads only from the consolidation of task 1 on, as thresholds,
    may change with --after 1: ten of them cost the training of one first task. A few are read from
    that of task 2 on, and may change with --after 2.

    Without other settings a fork is a branch: extend it otherwise than the run.

    [dim]Examples:[/dim]

      ness fork runs/a --after 1 --out runs/b methods.ness.eps1=3e-3

      ness fork runs/a --after 3 --out runs/may
    """
    from ness_cli.cli.fork_run import fork_run
    from ness_cli.cli.targets import refuse_options
    from ness_cli.errors import SettingsError

    way_on = f"ness fork {shlex.quote(str(run))}"
    with session(
        json=json, quiet=quiet, way_on=way_on, device=device, threads=threads
    ) as workplace:
        refuse_options(overrides or (), fork)
        if out is None:
            raise SettingsError("--out: is required", f"{way_on} --after {after} --out RUN2")
        fork_run(run, out, overrides or (), workplace, after=after)
