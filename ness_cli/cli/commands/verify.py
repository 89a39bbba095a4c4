"""``ness verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session


def verify(
    run: options.Run,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Measure all accuracies again; needs the images.")
    ] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check that a run's files are what its steps wrote, and that they fit each other.

    Hashes of all files; shapes; bases orthonormal, covariances symmetric, spectra and ranks those
    of the covariances; the weights of every task those before plus the update, to the bit. Ends at
    the first file that is wrong and names it: exit code 5, or 4 if it is missing.

    [dim]Examples:[/dim]

      ness verify runs/a

      ness verify runs/a --evaluate
    """
    from ness_cli.results.storage_tables import verified_table
    from ness_cli.run_dir import RunDir
    from ness_cli.stages.context import RunContext
    from ness_cli.stages.verify import verify as make_verification

    with session(json=json, quiet=quiet, device=device, threads=threads) as workplace:
        context = RunContext(RunDir(run), workplace)
        found = make_verification(context, evaluate=evaluate).as_json()
        workplace.console.result(verified_table(found, f"{run}: all is as it was written"))
        workplace.console.document({"schema": "ness.verify/1", "run": str(run), **found})
