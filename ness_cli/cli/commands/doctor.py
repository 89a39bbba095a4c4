"""``ness doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session


def doctor(
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test/--no-self-test", help="Train, kill, resume and project for ten seconds."
        ),
    ] = True,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Look at this machine, say what does not work and what to do about it.

    Versions, device, determinism, threads, memory, disk, files and prepared images; then a small
    run is trained on the device, killed and resumed to the same bits, and its projection checked.
    Exit code 8 if there is a problem; notes do not count.

    [dim]Examples:[/dim]

      ness doctor

      ness doctor --device cuda:1

      ness doctor --no-self-test --json
    """
    from ness_cli.results.findings import findings_table
    from ness_cli.stages.doctor import examine
    from ness_cli.stages.self_test import self_test as make_self_test

    with session(json=json, quiet=quiet, device=device, threads=threads) as workplace:
        found = list(examine(workplace, Path()))
        has_device = all(each.status != "problem" for each in found if each.name == "device")
        if self_test and has_device:
            workplace.console.note("training two small runs ...")
            found += make_self_test(workplace)
        problems = [each for each in found if each.status == "problem"]
        workplace.console.result(findings_table(found))
        workplace.console.document(
            {
                "schema": "ness.doctor/1",
                "good": not problems,
                "findings": [each.as_json() for each in found],
            }
        )
        if problems:
            raise typer.Exit(8)
