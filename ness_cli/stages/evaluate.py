"""Fill one row of the accuracy matrix: the model after a task, on every task seen."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from ness_cli.data.batches import Images
from ness_cli.engine.score import (
    class_incremental_accuracy,
    fraction_true,
    logits,
    task_incremental_accuracy,
)
from ness_cli.errors import SettingsError
from ness_cli.extensions import extension_of
from ness_cli.memory import short_of_memory
from ness_cli.methods.base import Method
from ness_cli.run_state import StepState, command
from ness_cli.stages.context import RunContext, require_task, run_log, step_to_redo
from ness_cli.stages.models import is_at_hand
from ness_cli.stages.outcome import Outcome
from ness_cli.stages.step_record import StepRecord
from ness_cli.stages.trained_model import trained_method
from ness_cli.subspace.layer_inputs import calling_between_layers
from ness_cli.words import tasks_in_words
from ness_cli.workplace import stopping

SHARED_HEAD = "not applicable: the tasks share one head"
_KEYS = {"task": "task_incremental", "class": "class_incremental", "validation": "validation"}


def evaluate(
    context: RunContext,
    task: int | None = None,
    *,
    scenario: str | None = None,
    validation: bool = False,
    force: bool = False,
) -> Outcome:
    """Score the model after a task on the test images of every task seen so far.

    Args:
        context: The run, locked.
        task: Number of the task; the first without accuracies when ``None``.
        scenario: ``task``, ``class`` or ``both``; the run's setting when ``None``.
        validation: Score validation images too; the run's setting may ask for them anyway.
        force: Do it again although it is done.

    Returns:
        What happened; ``record`` is the content of ``accuracy.json``, percent throughout, null
        for tasks whose images are gone since the run was extended.

    Raises:
        InputError: If the task has not been trained, or files are missing.
        DamagedError: If a file does not read back.
        SettingsError: If validation images are asked for and there are none.
        StoppedError: If a stop was requested; the step starts over next time.
    """
    scenario = scenario or context.settings.evaluate.scenario
    wanted = ("task", "class") if scenario == "both" else (scenario,)
    if validation or context.settings.evaluate.validation:
        wanted = (*wanted, "validation")
    state = context.state(redone=step_to_redo("evaluate", task, force=force))
    step = require_task(state, "evaluate", task)
    if step is None and task is None:
        # A row may be there without the scenario that is asked for now.
        rows = (state.of(t, "evaluate") for t in range(1, state.num_tasks + 1))
        step = next((r for r in rows if _missing(r, wanted) and is_at_hand(context, r.task)), None)
    if step is None or (step.is_done and not _missing(step, wanted) and not force):
        return Outcome.skipped(step, "all tasks are evaluated")
    if step.is_done and not force and not is_at_hand(context, step.task):
        note = f"task {step.task}: already done; its model is not kept (storage.keep=latest)"
        return Outcome(step.task, step.record, was_skipped=True, note=note)
    task_number = step.task
    known = step.record if step.is_done and not force else {}
    remedy = "prepare another run with a lower evaluate.batch_size"
    with run_log(context.run, f"evaluate, task {task_number}"), short_of_memory(remedy):
        record = StepRecord(context, "evaluate", task_number)
        method = trained_method(context, task_number, record.files)
        found = record.finish(
            {
                "task_incremental": known.get("task_incremental"),
                "class_incremental": known.get("class_incremental"),
                "class_incremental_note": known.get("class_incremental_note"),
                "validation": known.get("validation"),
                **score(context, method, task_number, wanted),
                "next_task": next_task_accuracy(context, method, task_number),
            }
        )
    return Outcome(task_number, found)


def _missing(row: StepState, wanted: tuple[str, ...]) -> bool:
    record = row.record
    return any(
        record.get(_KEYS[name]) is None
        and not (name == "class" and record.get("class_incremental_note"))
        for name in wanted
    )


def score(
    context: RunContext, method: Method, task_number: int, wanted: tuple[str, ...]
) -> dict[str, Any]:
    """Return rows of accuracies, percent, by the key that they have in ``accuracy.json``.

    Args:
        context: The run.
        method: The method after the task.
        task_number: The task.
        wanted: ``task``, ``class`` and ``validation``, any of them.

    Raises:
        InputError: If images are gone from the cache.
        SettingsError: If validation images are asked for and there are none.
        StoppedError: If a stop was requested.
    """
    seen = range(1, task_number + 1)
    size = context.settings.evaluate.batch_size
    shared = method.model.shared_head
    class_incremental = "class" in wanted and not shared
    test = _images(context, task_number, "test")
    valid = _images(context, task_number, "valid") if "validation" in wanted else {}
    without = [str(t) for t, images in valid.items() if not len(images)]
    if without:
        raise SettingsError(
            f"validation: no images were set aside for it in task {', '.join(without)}",
            "prepare a run with data.valid_fraction=0.05",
        )
    passes = ("task" in wanted) + class_incremental * task_number
    total = passes * sum(map(len, test.values())) + sum(map(len, valid.values()))
    scores: dict[str, dict[int, float]] = {}
    title = f"task {task_number}/{context.stream.num_tasks}: evaluating"
    with ExitStack() as stack:
        track = stack.enter_context(context.workplace.progress.track(title, max(1, total)))
        advance = stopping(context.workplace, command(context.run.path, "evaluate"), track)
        stack.enter_context(calling_between_layers(method.model, lambda: advance(0)))
        if "task" in wanted:
            scores["task_incremental"] = {
                t: task_incremental_accuracy(method, images, size, advance)
                for t, images in test.items()
            }
        if class_incremental:
            scores["class_incremental"] = {
                t: class_incremental_accuracy(method, images, seen, size, advance)
                for t, images in test.items()
            }
        if valid:
            scores["validation"] = {
                t: task_incremental_accuracy(method, images, size, advance)
                for t, images in valid.items()
            }
    rows: dict[str, Any] = {
        key: [100 * found[t] if t in found else None for t in seen] for key, found in scores.items()
    }
    if "class" in wanted and shared:
        rows["class_incremental_note"] = SHARED_HEAD
    return rows


def next_task_accuracy(context: RunContext, method: Method, task_number: int) -> float | None:
    """Return the accuracy on the task after one that was not learned yet, percent.

    ``None`` without a head that all tasks share: there is none for it then; and where there is no
    such task, or its images are gone.
    """
    following = task_number + 1
    if not method.model.shared_head or following > context.stream.num_tasks:
        return None
    if not context.stream.has(following, "test"):
        return None
    images = context.images(following, "test")
    with method.task_view(task_number) as model:
        predicted = logits(model, images, context.settings.evaluate.batch_size, lambda _: None)
    return 100 * fraction_true(predicted.argmax(dim=1) == images.labels)


def _images(context: RunContext, task_number: int, split: str) -> dict[int, Images]:
    """Open the images of all tasks up to one that are there, by task.

    Those of tasks before an extension may be gone, as their source may be: that is noted. Any other
    file that is missing is refused when it is opened.
    """
    extension = extension_of(context.run_record, task_number)
    others = range(1, 1 if extension is None else extension.first_task)
    gone = [t for t in others if not context.stream.has(t, split)]
    if gone:
        context.workplace.progress.note(
            f"{tasks_in_words(gone)}: the {split} images are gone, so they are not scored"
        )
    return {t: context.images(t, split) for t in range(1, task_number + 1) if t not in gone}
