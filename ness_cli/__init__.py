"""Continual learning in null spaces; what programs use of it.

    import ness_cli

    model = ness_cli.load("runs/leaves")
    print(model.predict(["new.png"])[0].label)

Everything heavy is imported when a function is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ness_cli.results.read_run import RunResult
    from ness_cli.stages.trained_model import TrainedModel

__all__ = ["load", "read_results"]


def load(
    run: str | Path,
    task: int | None = None,
    device: str | None = None,
    *,
    after: int | None = None,
) -> TrainedModel:
    """Return the model of a run: a ``torch.nn.Module`` in evaluation mode.

    It has ``classes``, ``preprocess(image)`` and ``predict(images)``; called on uint8 images
    ``[n, c, h, w]``, as ``preprocess`` makes them, it returns logits ``[n, len(classes)]``. Neither
    the images that the run learned nor its cache is needed.

    Args:
        run: The run folder.
        task: The task whose classes an image may belong to, from 1. Those of all tasks that are
            trained compete when ``None``.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; the best that there is when ``None``.
        after: The task after which the model is; the last one that is trained when ``None``.

    Raises:
        ness_cli.errors.InputError: If the folder is no run, there is no such task, or it is not
            trained.
        ness_cli.errors.DamagedError: If a file does not read back as it was written.
        ness_cli.errors.SystemRefusedError: If the device is not there.
    """
    from ness_cli.stages import trained_model

    return trained_model.load(run, task, device, after=after)


def read_results(run: str | Path) -> RunResult:
    """Return what a run has to show: accuracies, in percent, and the records of all steps.

    ``task_incremental`` is the accuracy matrix, with ``rows``, ``acc``, ``bwt`` and ``forgetting``;
    ``class_incremental`` and ``validation`` are alike, and without rows if never measured;
    ``state`` has every step and what it recorded.

    Args:
        run: The run folder.

    Raises:
        ness_cli.errors.InputError: If the folder is no run.
        ness_cli.errors.DamagedError: If a record does not read back.
    """
    from ness_cli.results.read_run import read_run

    return read_run(Path(run))
