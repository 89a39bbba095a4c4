"""``ness inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session


def inspect(
    run: options.Run,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Exit with 3 if an update breaks its bound on any earlier input."
        ),
    ] = False,
    images: Annotated[
        int | None,
        typer.Option(
            min=1, help="Look at this many images a task. Default: all.", show_default=False
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw all spectra into a .png, .svg or .pdf file.", show_default=False),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show how much room is left, what later tasks did to earlier inputs, and how far they drifted.

    For every layer and update s: ||V||_2, the bound tau ||V||_2, and the largest and mean change
    ||x^T dW|| measured on the inputs of earlier tasks. The bound covers one layer at fixed inputs;
    what it does not cover, the drift through the whole network, is measured too. rho, the rms
    change of a layer's outputs on all earlier inputs, needs no images: it says which budget would
    do. Where prepared images are gone from the cache, that, room and spectra are shown alone.

    [dim]Examples:[/dim]

      ness inspect runs/a --check

      ness inspect runs/a --images 500 --plot spectra.png
    """
    from rich.console import Group

    from ness_cli.plots.picture import check_plot
    from ness_cli.plots.spectra import plot_spectra
    from ness_cli.results.table import apart
    from ness_cli.run_dir import RunDir
    from ness_cli.stages.context import RunContext
    from ness_cli.stages.inspect import inspect as make_inspection
    from ness_cli.stages.inspect import refuse_check

    with session(json=json, quiet=quiet, device=device, threads=threads) as workplace:
        if plot is not None:
            check_plot(plot)
        context = RunContext(RunDir(run), workplace)
        if check:
            refuse_check(context)
        found = make_inspection(context, num_images=images, needs_images=check)
        if plot is not None:
            plot_spectra(found.path, found.spectra, plot)
            workplace.console.note(f"spectra drawn into {plot}")
        workplace.console.result(Group(*apart(found.tables(workplace.console.width))))
        if found.left_out:
            workplace.console.note(found.left_out)
        workplace.console.document(found.document())
        if check and found.violations:
            for line in found.violations[:10]:
                workplace.console.note(f"violated: {line}")
            raise typer.Exit(3)
