"""How far updates moved what layers put out on earlier inputs, from the files of a run alone."""

from __future__ import annotations

from collections.abc import Collection

from ness_cli.methods.base import Method
from ness_cli.methods.files import RelativeChange, Tensors
from ness_cli.results.forgetting_meter import ForgettingMeter, Update
from ness_cli.run_state import RunState
from ness_cli.stages.context import RunContext
from ness_cli.stages.models import add_head, is_at_hand, load_matrices, new_model
from ness_cli.stages.run_files import RunFiles
from ness_cli.workplace import stopping


def measured_update(
    context: RunContext,
    method: Method,
    task_number: int,
    after: Tensors | None = None,
    *,
    loaded: Collection[str] = (),
) -> dict[str, RelativeChange]:
    """Return how far the update of a task moved outputs on earlier inputs, by layer.

    Args:
        context: The run.
        method: Its method, around any of its models; it takes in what the measure needs.
        task_number: Number of the task.
        after: The matrix of every layer after the update; those of the model when absent.
        loaded: Names of files of the task before that the method has already.

    Returns:
        Nothing where the files that it takes are not there, or the method has no measure.

    Raises:
        InputError: If a file belongs to another run.
        DamagedError: If a file does not read back.
    """
    # Whatever makes one of these anew makes this task's training stale: no inputs of the step.
    files, before = RunFiles(context), task_number - 1
    names = method.reads("measure")
    if not names or not before or not all(files.exists(before, name) for name in names):
        return {}
    needed = [before] if after is not None else [before, task_number]
    if not all(is_at_hand(context, number) for number in needed):
        return {}
    method.load_memory(files.read_all(before, [name for name in names if name not in loaded]))
    if after is None:
        after = load_matrices(context, method, task_number, files)
    return method.output_changes(load_matrices(context, method, before, files), after)


def measured_updates(context: RunContext, state: RunState) -> ForgettingMeter:
    """Return the measure of every update that is trained, from files, else from its record.

    Raises:
        InputError: If a file belongs to another run.
        DamagedError: If a file does not read back.
        StoppedError: If a stop was requested.
    """
    recorded = ForgettingMeter.of(state, context.run_record["identity"])
    model = new_model(context)
    add_head(context, model, 1)  # one for all is a layer
    method = context.method(model)
    numbers = [*(update.task for update in recorded.updates), *recorded.missing]
    if not numbers or not method.reads("measure"):
        return recorded
    found = []
    with context.workplace.progress.track("updates on earlier inputs", len(numbers)) as track:
        advance = stopping(context.workplace, f"ness inspect {context.run.path}", track)
        for number in sorted(numbers):
            changes = measured_update(context, method, number)
            if changes:
                layers = {name: change.as_json() for name, change in changes.items()}
                found.append(Update.of(number, layers, recorded.over))
            advance(1)
    return recorded.with_measured(found)
