"""``ness train-task``."""

from __future__ import annotations

from ness_cli.cli import options
from ness_cli.cli.session import session


def train_task(
    run: options.Run,
    task: options.Task = None,
    force: options.Force = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train the next task of a run.

    Opens the training images of that task only. Killed or stopped, it goes on from its last
    checkpoint when typed again.

    [dim]Examples:[/dim]

      ness train-task runs/a

      ness train-task runs/a --task 2 --device cuda:1
    """
    from ness_cli.cli.single_step import make_step
    from ness_cli.stages import train_task as stage

    with session(json=json, quiet=quiet, device=device, threads=threads) as workplace:
        make_step(
            "train", run, workplace, lambda context: stage.train_task(context, task, force=force)
        )
