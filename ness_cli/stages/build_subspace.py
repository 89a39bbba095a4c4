"""Consolidate one task: for NESS, add to the covariances and fix the basis of the next task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ness_cli.memory import short_of_memory
from ness_cli.methods.base import Method
from ness_cli.methods.task import LayerRow
from ness_cli.processes import current_processes
from ness_cli.run_state import command
from ness_cli.settings.methods.base import MethodOptions
from ness_cli.stages.context import (
    RunContext,
    require_done,
    require_task,
    run_log,
    step_to_redo,
)
from ness_cli.stages.forgetting_meter import measured_update
from ness_cli.stages.kept import kept_after, require_carried
from ness_cli.stages.models import load_model
from ness_cli.stages.outcome import Outcome
from ness_cli.stages.resources import require_disk_space
from ness_cli.stages.retention import remove_older
from ness_cli.stages.step_record import StepRecord
from ness_cli.workplace import stopping

_MOST = 6  # layers that a note names


def build_subspace(context: RunContext, task: int | None = None, *, force: bool = False) -> Outcome:
    """Consolidate the next trained task of a run, or a given one.

    Args:
        context: The run, locked.
        task: Number of the task; the first that is not consolidated when ``None``.
        force: Do it again although it is done.

    Returns:
        What happened; ``record`` is the content of ``subspace.json``.

    Raises:
        InputError: If the steps before are not done, or files are missing.
        DamagedError: If a file does not read back.
        NumericalError: If a layer's inputs are not finite; names the layer.
        SystemRefusedError: If the disk cannot take its files.
        StoppedError: If a stop was requested; the step starts over next time.
    """
    state = context.state(redone=step_to_redo("build", task, force=force))
    step = require_task(state, "build", task)
    if step is None or (step.is_done and not force):
        return Outcome.skipped(step, "all tasks are consolidated")
    task_number = step.task
    require_done(state, task_number, "train")
    if task_number > 1:
        require_done(state, task_number - 1, "build")
    remedy = "prepare another run with a lower evaluate.batch_size, or narrower layers (net.adapt)"
    with run_log(context.run, f"build-subspace, task {task_number}"), short_of_memory(remedy):
        rows, found = _consolidated(context, task_number)
    if task_number < context.stream.num_tasks and (
        note := closed_note(rows, context.settings.options)
    ):
        context.workplace.progress.note(f"task {task_number}: {note}")
    return Outcome(task_number, found)


def _consolidated(
    context: RunContext, task_number: int
) -> tuple[Sequence[LayerRow], dict[str, Any]]:
    """Consolidate a task and write its files; return its layers and the record of the step."""
    record = StepRecord(context, "build", task_number)
    method = context.method(load_model(context, task_number, record.files), task_number)
    require_disk_space(context, method, "build")
    record.files.load_memory(method, "build", task_number - 1)
    record.files.load_training(method, task_number)
    changes = _changes(context, method, task_number)
    context.require_places(task_number, "build")
    data = context.task(task_number, "build")
    work = method.consolidation_work(data)
    title = f"task {task_number}/{context.stream.num_tasks}: building"
    with context.workplace.progress.track(title, max(1, work)) as advance:
        rows = method.consolidate(
            data, stopping(context.workplace, command(context.run.path, "build"), advance)
        )
    require_carried(context, method, record.files, task_number)
    # Only now, with everything read and computed by all processes, does the old state go.
    current_processes().wait()
    context.require_same_run()
    context.remove_record(task_number, "build")
    outputs = method.outputs("build")
    for name, tensors in outputs.items():
        record.write(name, tensors)
    found = record.finish(
        {
            "layers": [row.as_json() for row in rows],
            **({"output_change": changes} if changes else {}),
            "frozen": method.frozen(),
            "stored": ", ".join(outputs) or "nothing",
            **_kept(context, method, record, task_number),
        }
    )
    if context.settings.storage.keep == "latest" and current_processes().is_main:
        earlier = context.changed(range(1, task_number))
        remove_older(context, context.state(), method, earlier)
    return rows, found


def _changes(context: RunContext, method: Method, task_number: int) -> dict[str, Any]:
    """Return how far the task's update moved earlier outputs, by layer, unless training knew it.

    Here and not in training: a covariance is the largest file of a run, and building reads it.
    """
    known = context.state().of(task_number, "train").record.get("output_change")
    if known or not current_processes().is_main:
        return {}
    after = {name: view.matrix() for name, view in method.layers.items()}
    loaded = method.reads("build")
    found = measured_update(context, method, task_number, after, loaded=loaded)
    return {name: change.as_json() for name, change in found.items()}


def _kept(
    context: RunContext, method: Method, record: StepRecord, task_number: int
) -> dict[str, Any]:
    """Return what is kept after the task, of the process that has written the files."""
    if not current_processes().is_main:
        return {}
    kept = kept_after(context, method, record.files, task_number)
    return {"memory_bytes": kept.memory_bytes, "kept": kept.as_json()}


def closed_note(rows: Sequence[LayerRow], options: MethodOptions) -> str:
    """Return a sentence on layers that the next task cannot change; empty if there are none."""
    closed = [row.layer for row in rows if row.rank == 0]
    if not closed:
        return ""
    more = f" and {len(closed) - _MOST} more layers" if len(closed) > _MOST else ""
    way = options.way_to_open()
    return f"{', '.join(closed[:_MOST])}{more}: no direction is open to the next task" + (
        f"; {way}" if way else ""
    )
