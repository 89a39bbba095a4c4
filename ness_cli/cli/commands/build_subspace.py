"""``ness build-subspace``."""

from __future__ import annotations

from ness_cli.cli import options
from ness_cli.cli.session import session


def build_subspace(
    run: options.Run,
    task: options.Task = None,
    force: options.Force = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Consolidate the task just trained: fix the subspace that the next one may learn in.

    NESS adds the task's layer inputs to the covariances and shows, per layer, the width d of its
    inputs, the rank left to learn in, the threshold and the share of energy below it.

    [dim]Examples:[/dim]

      ness build-subspace runs/a

      ness build-subspace runs/a --task 1 --json
    """
    from ness_cli.cli.single_step import make_step
    from ness_cli.stages import build_subspace as stage

    with session(json=json, quiet=quiet, device=device, threads=threads) as workplace:
        make_step(
            "build",
            run,
            workplace,
            lambda context: stage.build_subspace(context, task, force=force),
        )
