"""Options that several commands share, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ness_cli.cli import completion

# typer reads these at run time, where Python 3.10 needs Optional rather than "X | None" strings.
Run = Annotated[Path, typer.Argument(help="The run folder.", show_default=False)]
Runs = Annotated[
    list[Path],
    typer.Argument(help="Run folders, or folders with runs below.", show_default=False),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings to change, for example [bold]train.lr=0.05 method.name=gpm[/bold]. "
        "See: ness settings.",
        autocompletion=completion.overrides,
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Name of a preset, or a YAML file. See: ness presets ls.",
        autocompletion=completion.presets,
        show_default=False,
    ),
]
PresetName = Annotated[
    str,
    typer.Argument(
        help="Name of a preset, or a YAML file.",
        autocompletion=completion.presets,
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="The run folder. Default: runs/PRESET-METHOD-sSEED.", show_default=False),
]
OutOfSeeds = Annotated[
    Path | None,
    typer.Option(
        help="The folder of the runs. Default: runs/reproduce-PRESET, with -quick if it is.",
        show_default=False,
    ),
]
Seed = Annotated[int | None, typer.Option(help="The run's seed.", show_default=False)]
Seeds = Annotated[
    str | None,
    typer.Option(
        help="Several seeds, as in 1,2,3: one ordinary run each, in OUT/seed-N.", show_default=False
    ),
]
VerifyData = Annotated[
    bool,
    typer.Option(
        "--verify-data",
        help="Compare the images' files with those that the run was prepared from.",
    ),
]
NumJobs = Annotated[
    int,
    typer.Option(
        "--jobs", min=1, help="With --seeds: runs at a time, each in a process of its own."
    ),
]
Task = Annotated[
    int | None,
    typer.Option(help="The task, from 1. Default: the next to do.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Do the step again although it is done.")]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", autocompletion=completion.devices)
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads. Default: one per core.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for scripts.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
