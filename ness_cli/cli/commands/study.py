"""``ness study``: many runs, from one file, on the engine that there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ness_cli.cli import completion, options
from ness_cli.cli.command_line import command_line
from ness_cli.cli.session import session

app = typer.Typer(help="Many runs from one file: rows of settings, seeds.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The study's YAML file.", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="The folder of a study.", show_default=False)]
Out = Annotated[
    Path | None,
    typer.Option(help="The folder of the study. Default: runs/FILE.", show_default=False),
]
On = Annotated[str, typer.Option("--on", help="The engine that runs it.")]
Rows = Annotated[
    list[str] | None,
    typer.Option(help="The rows that are wanted, as in hard,sgp or 'ness*'.", show_default=False),
]
Base = Annotated[
    str | None,
    typer.Option(help="Another preset for the rows to start from.", show_default=False),
]
Seeds = Annotated[
    str | None, typer.Option(help="Other seeds than the study's, as in 1,2,3.", show_default=False)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be started or submitted.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", min=1, help="Runs at a time. Default: what there is room for.", show_default=False
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads of a run. Default: the study's.", show_default=False),
]


@app.command("run")
def run(
    context: typer.Context,
    file: File,
    overrides: options.Overrides = None,
    out: Out = None,
    on: On = "local",
    rows: Rows = None,
    seeds: Seeds = None,
    base: Base = None,
    jobs: Jobs = None,
    only_failed: Annotated[
        bool,
        typer.Option("--only-failed", help="Run only what has failed, or was interrupted, before."),
    ] = False,
    dry_run: DryRun = False,
    device: options.Device = "auto",
    threads: Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run a study: every row with every seed. Typed again it goes on where it stopped.

    A run that fails does not stop the others, and is listed with its reason. Settings after FILE go
    to every run; those that begin with engines. to the study.

    [dim]Examples:[/dim]

      ness study run studies/family-digits.yaml --out runs/family --jobs 2

      ness study run studies/bounded.yaml --rows hard,bounded data.path=cifar100
    """
    from ness_cli.cli import run_study
    from ness_cli.cli.targets import refuse_options

    with session(
        json=json, quiet=quiet, way_on=command_line(context), device=device, threads=threads
    ) as workplace:
        refuse_options(overrides or (), run)
        request = run_study.Request(
            file, overrides or (), base, seeds, out, rows or (), jobs=jobs, engine=on
        )
        if dry_run:
            run_study.dry_run(request, workplace)
        else:
            run_study.run_study(request, workplace, only_failed=only_failed)


@app.command("plan")
def plan(
    file: File,
    overrides: options.Overrides = None,
    out: Out = None,
    on: On = "local",
    rows: Rows = None,
    seeds: Seeds = None,
    base: Base = None,
    jobs: Jobs = None,
    like: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder with finished runs to estimate times by. Default: runs.",
            show_default=False,
        ),
    ] = None,
    measured: Annotated[
        bool,
        typer.Option("--measure", help="Measure an epoch of what no finished run tells the time."),
    ] = False,
    device: options.Device = "auto",
    threads: Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the runs of a study, their tasks, and about how much time and disk they take.

    Times are those of finished runs of the same kind: the same images, network, training and
    method. Every row is checked with its images and its network.

    [dim]Examples:[/dim]

      ness study plan studies/family-digits.yaml --measure

      ness study plan studies/budget.yaml --like runs/older data.path=cifar100
    """
    from ness_cli.cli import run_study
    from ness_cli.cli.targets import refuse_options

    with session(json=json, quiet=quiet, device=device, threads=threads) as workplace:
        refuse_options(overrides or (), plan)
        request = run_study.Request(
            file, overrides or (), base, seeds, out, rows or (), jobs=jobs, engine=on
        )
        folders = [Path("runs")] if like is None else like
        run_study.plan_study(request, workplace, like=folders, measured=measured)


@app.command("ls")
def list_studies(
    folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("runs"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the studies that were run in a folder, and how far they are.

    [dim]Examples:[/dim]

      ness study ls

      ness study ls /data/runs
    """
    from ness_cli.cli.run_study import list_studies as show

    with session(json=json, quiet=quiet) as workplace:
        show(folder, workplace)


@app.command("status")
def status(folder: Folder, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Show how far every run of a study is, and why runs failed.

    [dim]Examples:[/dim]

      ness study status runs/family
    """
    from ness_cli.cli.run_study import show_status

    with session(json=json, quiet=quiet) as workplace:
        show_status(folder, workplace)


@app.command("stop")
def stop(folder: Folder, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Stop a study: every run keeps a checkpoint, and study run goes on later.

    [dim]Examples:[/dim]

      ness study stop runs/family
    """
    from ness_cli.cli.run_study import stop_study

    with session(json=json, quiet=quiet) as workplace:
        stop_study(folder, workplace)


@app.command("table")
def table(
    folder: Folder,
    rows: Rows = None,
    seeds: Annotated[
        str | None, typer.Option(help="The seeds that count, as in 1,2,3.", show_default=False)
    ] = None,
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            help="text, or what other programs read: json, csv, markdown, latex.",
            autocompletion=completion.report_formats,
        ),
    ] = "text",
    save: Annotated[
        Path | None,
        typer.Option(
            help="Where to write table.html, .md, .tex, .csv, .json, and plots. Default: the "
            "folder of the study, without plots.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show a line per row: means over its seeds, and what was not run; and write it to files.

    Any folder with runs in ROW/seed-N can be tabulated, whatever made them.

    [dim]Examples:[/dim]

      ness study table runs/family

      ness study table runs/family --rows ness,gpm --format latex > family.tex
    """
    from ness_cli.cli.run_study import Wanted, show_table
    from ness_cli.cli.targets import parse_seeds

    chosen = "json" if json else format_name
    with session(json=chosen == "json", quiet=quiet) as workplace:
        numbers = [] if seeds is None else parse_seeds(seeds)
        wanted = Wanted(tuple(rows or ()), tuple(numbers))
        show_table(folder, wanted, workplace, format_name=chosen, save=save)
