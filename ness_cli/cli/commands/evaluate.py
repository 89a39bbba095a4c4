"""``ness evaluate``."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from ness_cli.cli import options
from ness_cli.cli.session import session


class Scenario(str, Enum):
    """What is known of an image when it is classified."""

    task = "task"
    cls = "class"
    both = "both"


def evaluate(
    run: options.Run,
    task: options.Task = None,
    scenario: Annotated[
        Scenario | None,
        typer.Option(
            help="task: the image's task is known; class: it is not. Default: the run's setting.",
            show_default=False,
        ),
    ] = None,
    validation: Annotated[
        bool,
        typer.Option("--validation", help="Score validation images too, to choose settings by."),
    ] = False,
    force: options.Force = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score the model after a task on every task seen: one row of the accuracy matrix.

    [dim]Examples:[/dim]

      ness evaluate runs/a

      ness evaluate runs/a --task 3 --scenario both
    """
    from ness_cli.cli.single_step import make_step
    from ness_cli.stages import evaluate as stage
    from ness_cli.stages.context import RunContext
    from ness_cli.stages.outcome import Outcome
    from ness_cli.stages.progress_picture import ProgressPicture

    def step(context: RunContext) -> Outcome:
        kind = scenario.value if scenario else None
        outcome = stage.evaluate(context, task, scenario=kind, validation=validation, force=force)
        if outcome.task is not None and not outcome.was_skipped:
            ProgressPicture(context).after(outcome.task)
        return outcome

    with session(json=json, quiet=quiet, device=device, threads=threads) as workplace:
        make_step("evaluate", run, workplace, step)
