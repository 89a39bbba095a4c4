"""Consolidate one task: for NESS, add to the covariances and fix the basis of the next task."""

from __future__ import annotations

from collections.abc import Sequence

from ness_cli import tensor_files, world
from ness_cli.memory import short_of_memory
from ness_cli.methods.base import LayerRow
from ness_cli.run_dir import read_json, write_json
from ness_cli.run_state import RECORDS, RunState, command
from ness_cli.settings.methods.base import MethodOptions
from ness_cli.stages.context import (
    RunContext,
    require_done,
    require_task,
    run_log,
    stopping,
)
from ness_cli.stages.models import load_model
from ness_cli.stages.outcome import Outcome
from ness_cli.stages.resources import require_room
from ness_cli.stages.step_record import StepTimer

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
    state = context.state()
    step = require_task(state, "build", task)
    if step is None or (step.is_done and not force):
        return Outcome.skipped(step, "all tasks are consolidated")
    number = step.task
    require_done(state, number, "train")
    if number > 1:
        require_done(state, number - 1, "build")
    remedy = "prepare another run with a lower evaluate.batch_size, or narrower layers (net.adapt)"
    with run_log(context.run, f"build-subspace, task {number}"), short_of_memory(remedy):
        timer = StepTimer(context, "build", number)
        method = context.method(load_model(context, number, timer.inputs))
        require_room(context, method, "build")
        if number > 1:
            method.load_memory(context.read_memory(method, "build", number - 1, timer.inputs))
        if context.run.task(number).tensors("update").exists():
            method.load_update(context.read(number, "update", "train", timer.inputs))
        data = context.task(number, "build")
        work = method.consolidation_work(data)
        title = f"task {number}/{context.stream.num_tasks}: building"
        with context.place.progress.track(title, max(1, work)) as advance:
            rows = method.consolidate(
                data, stopping(context.place, command(context.run.path, "build"), advance)
            )
        # Only now, with everything read and computed by all processes, does the old state go.
        world.current().wait()
        if world.current().is_main:
            context.run.task(number).record(RECORDS["build"]).unlink(missing_ok=True)
        memory = method.memory()
        for name, tensors in memory.items():
            timer.write(name, tensors)
        sizes = {name: tensor_files.num_bytes(tensors) for name, tensors in memory.items()}
        stored = ", ".join(sizes) if sizes else "nothing"
        record = timer.finish(
            {
                "layers": [row.as_json() for row in rows],
                "frozen": method.frozen(),
                "stored": stored,
                "memory_bytes": sum(sizes.values()),
            }
        )
        if context.settings.storage.keep == "latest" and world.current().is_main:
            _remove_older(context, context.state(), number)
    if number < context.stream.num_tasks and (note := closed_note(rows, context.settings.options)):
        context.place.progress.note(f"task {number}: {note}")
    return Outcome(number, record)


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


def _remove_older(context: RunContext, state: RunState, number: int) -> None:
    """Remove the large files of earlier tasks that nothing needs any more.

    A model goes if it can be put together again from updates and bases, or if its accuracies are
    in; model 1 stays. What is removed is written into the record first, so that a file that is
    gone on purpose is never taken for one that was lost.
    """
    has_updates = True
    for earlier in range(1, number):
        folder = context.run.task(earlier)
        has_updates = has_updates and (earlier == 1 or folder.tensors("update").exists())
        go = {"build": ["covariance", "memory"], "train": ["model"] if earlier > 1 else []}
        for step, names in go.items():
            files = [folder.tensors(name) for name in names if folder.tensors(name).exists()]
            path = folder.record(RECORDS[step])
            is_needed = step == "train" and not (
                has_updates or state.of(earlier, "evaluate").is_done
            )
            if is_needed or not files or not path.exists():
                continue
            record = read_json(path, remedy=f"run: {command(context.run.path, step, earlier)}")
            gone = {context.run.relative(file) for file in files}
            record["removed"] = sorted({*record.get("removed", []), *gone})
            write_json(path, record)
            for file in files:
                file.unlink()
