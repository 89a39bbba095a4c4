"""Train one task: opens its training data only, starts from the files of the task before."""

from __future__ import annotations

import json
from typing import Any

import torch

from ness_cli.engine.checkpoint import CheckpointFile
from ness_cli.engine.fit import Fit
from ness_cli.engine.fit_state import FitContext, FitState
from ness_cli.engine.score import record_statistics
from ness_cli.files import remove_file, write_bytes
from ness_cli.memory import short_of_memory
from ness_cli.methods.base import Method
from ness_cli.methods.task import Task
from ness_cli.nets.determinism import refuse_nondeterministic
from ness_cli.processes import current_processes
from ness_cli.run_state import RunState, command
from ness_cli.stages.context import RunContext, require_done, require_task, run_log, step_to_redo
from ness_cli.stages.models import (
    MODEL,
    add_head,
    load_model,
    new_model,
    pretrained_weights,
    state_dict,
)
from ness_cli.stages.outcome import Outcome
from ness_cli.stages.resources import require_disk_space
from ness_cli.stages.run_files import RunFiles
from ness_cli.stages.step_record import StepRecord
from ness_cli.stages.tracking import refuse_missing
from ness_cli.workplace import stopping


def train_task(context: RunContext, task: int | None = None, *, force: bool = False) -> Outcome:
    """Train the next task of a run, or a given one.

    Args:
        context: The run, locked.
        task: Number of the task; the first that is not trained when ``None``.
        force: Train again although it is done.

    Returns:
        What happened; ``record`` is the content of ``train.json``.

    Raises:
        InputError: If the steps before are not done, files are missing, or the folder came to hold
            another run meanwhile, or none.
        DamagedError: If a file does not read back.
        SettingsError: If the network cannot be trained on the device as deterministically as asked,
            or a program that is to follow the run is not installed.
        NumericalError: If the loss is not finite.
        SystemRefusedError: If the disk cannot take its files.
        StoppedError: If a stop was requested; a checkpoint is on disk then.
    """
    state = context.state(redone=step_to_redo("train", task, force=force))
    step = require_task(state, "train", task)
    _remove_spent_checkpoints(context, state, step.task if step else state.num_tasks)
    if step is None or (step.is_done and not force):
        return Outcome.skipped(step, "all tasks are trained")
    task_number = step.task
    if task_number > 1:
        require_done(state, task_number - 1, "train")
        require_done(state, task_number - 1, "build")
    refuse_missing(context.settings.track)
    folder = context.run.task(task_number)
    remedy = "prepare another run with a lower train.batch_size, or a smaller network or data.size"
    with run_log(context.run, f"train-task, task {task_number}"), short_of_memory(remedy):
        record = StepRecord(context, "train", task_number)
        method = _method(context, task_number, record.files)
        require_disk_space(context, method, "train")
        data = context.task(task_number, "train")
        _prepare(context, method, data)
        method.begin_task(data)
        context.require_places(task_number, "train")
        # Only now, with every input open and good, does the old state go.
        processes = current_processes()
        context.require_same_run()
        if processes.is_main and (force or step.status == "stale"):
            remove_file(folder.checkpoint)
        context.remove_record(task_number, "train")
        processes.wait()
        checkpoint = _checkpoint(context, record)
        fitted = _fit(context, method, data, checkpoint)
        method.end_task(data)
        record_statistics(method, method.statistics_sets(data))
        _write_history(context, task_number, fitted.history, durable=True)
        record.write(MODEL, state_dict(method.model))
        for name, tensors in method.outputs("train").items():
            record.write(name, tensors)
        found = record.finish(_results(fitted, context) | method.measured())
        if processes.is_main:
            checkpoint.remove()
    return Outcome(task_number, found)


def way_past_checkpoint(context: RunContext, task_number: int) -> str:
    """Return what to do about a damaged checkpoint of a task, for error messages."""
    return f"delete it and run: {command(context.run.path, 'train', task_number)}"


def _remove_spent_checkpoints(context: RunContext, state: RunState, task: int) -> None:
    """Remove what a process left that ended between the record of a task and its checkpoint.

    That task is the one asked for again, or the one before the next.
    """
    for number in range(max(1, task - 1), task + 1) if current_processes().is_main else ():
        checkpoint = context.run.task(number).checkpoint
        if checkpoint.exists() and state.of(number, "train").is_done:
            remove_file(checkpoint)


def _method(context: RunContext, task_number: int, files: RunFiles) -> Method:
    if task_number == 1:
        model = new_model(context, pretrained_weights(context))
        method = context.method(model, task_number)
    else:
        model = load_model(context, task_number - 1, files)
        method = context.method(model, task_number)
        files.load_memory(method, "train", task_number - 1)
    add_head(context, model, task_number)
    refuse_nondeterministic(
        model, context.stream.image_shape, context.settings.compute, context.device
    )
    model.to(context.device)
    if context.settings.compute.on(context.device.type).channels_last:
        # torch's stubs know the argument only together with others.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return method


def _prepare(context: RunContext, method: Method, task: Task) -> None:
    """Let a method do what its training needs and takes long."""
    if work := method.preparation_work(task):
        title = f"task {task.number}/{context.stream.num_tasks}: preparing"
        resume = command(context.run.path, "train", task.number)
        with context.workplace.progress.track(title, work) as advance:
            method.prepare(task, stopping(context.workplace, resume, advance))


def _checkpoint(context: RunContext, record: StepRecord) -> CheckpointFile:
    """Return the file that holds a training which started from what a step has read."""
    return CheckpointFile(
        context.run.task(record.task).checkpoint,
        context.identity("checkpoint", record.task) | {"inputs": record.files.inputs},
        remedy=way_past_checkpoint(context, record.task),
        before_save=context.require_same_run,
    )


def _fit(context: RunContext, method: Method, task: Task, checkpoint: CheckpointFile) -> FitState:
    settings, workplace = context.settings_of(task.number), context.workplace

    def write_history(history: list[dict[str, Any]]) -> None:
        # Not durable: after a crash of the machine the checkpoint has what it is made of.
        _write_history(context, task.number, history, durable=False)
        context.tracking.look_again()

    fit = Fit(
        method,
        task,
        FitContext(
            train=settings.train,
            seed=settings.seed,
            batch_size=settings.evaluate.batch_size,
            checkpoint=checkpoint,
            checkpoint_seconds=settings.checkpoint.seconds,
            stop=workplace.stop,
            resume=command(context.run.path, "train", task.number),
            on_epoch=write_history,
            advance=lambda steps, info: advance(steps, info),
            note=workplace.progress.note,
        ),
    )
    title = f"task {task.number}/{context.stream.num_tasks}: training"
    with workplace.progress.track(title, fit.num_steps) as advance:
        return fit.train()


def _write_history(
    context: RunContext, task_number: int, history: list[dict[str, Any]], *, durable: bool
) -> None:
    if current_processes().is_main:
        context.require_same_run()
        lines = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in history)
        write_bytes(context.run.task(task_number).history, lines.encode(), durable=durable)


def _results(fitted: FitState, context: RunContext) -> dict[str, Any]:
    return {
        "epochs": len(fitted.history),
        "steps": fitted.num_steps_done,
        "train_seconds": round(fitted.seconds, 3),
        "skipped_phases": fitted.skipped,
        **dict.fromkeys(("train_loss", "valid_loss", "valid_accuracy")),
        **fitted.kept,
    }
