"""The command line: a thin skin over the stages.

Commands import what they need when they run, so that ``ness --help`` starts at once.
"""

from __future__ import annotations

import io
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from ness_cli.cli.command_line import Commands
from ness_cli.cli.commands import (
    build_subspace,
    cache,
    datasets,
    diff,
    doctor,
    evaluate,
    export,
    extend,
    fork,
    inspect,
    methods,
    networks,
    predict,
    prepare,
    presets,
    prune,
    report,
    reproduce,
    run,
    settings,
    status,
    study,
    train_task,
    tune,
    verify,
)
from ness_cli.cli.help_text import flow_help

EPILOG = (
    "Exit codes: 0 done, 1 internal error, 2 usage or settings, 3 a result falls short, 4 input "
    "missing or not matching, 5 damaged state, 6 numerical failure, 7 run locked, 8 refused by the "
    "system, 75 stopped by a signal with a good checkpoint, 130 second Ctrl-C."
)

app = typer.Typer(
    name="ness",
    help="Train a network on one task after another without forgetting the earlier ones.\n\n"
    "[bold]ness run[/bold] does it all; every step is also a command of its own, which can be "
    "killed at any moment and typed again.",
    epilog=EPILOG,
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
STEPS, READING, DISCOVERY = "Steps", "Reading results", "Discovery"
USING, KEEPING = "Using the model", "Keeping files"

app.command("run", rich_help_panel=STEPS)(run.run)
app.command("prepare", rich_help_panel=STEPS)(prepare.prepare)
app.command("train-task", rich_help_panel=STEPS)(train_task.train_task)
app.command("build-subspace", rich_help_panel=STEPS)(build_subspace.build_subspace)
app.command("evaluate", rich_help_panel=STEPS)(evaluate.evaluate)
app.command("extend", rich_help_panel=STEPS)(extend.extend)
app.command("fork", rich_help_panel=STEPS)(fork.fork)
app.add_typer(study.app, name="study", rich_help_panel=STEPS)
app.command("tune", rich_help_panel=STEPS)(tune.tune)
app.command("report", rich_help_panel=READING)(report.report)
app.command("diff", rich_help_panel=READING)(diff.diff)
app.command("inspect", rich_help_panel=READING)(inspect.inspect)
app.command("reproduce", rich_help_panel=READING)(reproduce.reproduce)
app.command("status", rich_help_panel=READING)(status.status)
app.command("predict", rich_help_panel=USING)(predict.predict)
app.command("export", rich_help_panel=USING)(export.export)
app.command("verify", rich_help_panel=KEEPING)(verify.verify)
app.command("prune", rich_help_panel=KEEPING)(prune.prune)
app.add_typer(cache.app, name="cache", rich_help_panel=KEEPING)
app.add_typer(presets.app, name="presets", rich_help_panel=DISCOVERY)
app.command("methods", rich_help_panel=DISCOVERY)(methods.methods)
app.add_typer(datasets.app, name="datasets", rich_help_panel=DISCOVERY)
app.command("settings", rich_help_panel=DISCOVERY)(settings.settings)
app.command("doctor", rich_help_panel=DISCOVERY)(doctor.doctor)
app.command("networks", rich_help_panel=DISCOVERY)(networks.networks)
flow_help(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ness {version('ness-cli')}")
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Hold the options of the program itself."""


def main() -> None:
    """Run the command line."""
    # A locale that is not UTF-8 has no ±: a question mark then, and not the end of the command.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    app()
