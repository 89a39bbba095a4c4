"""Apply ``storage.keep=latest`` to a run that was made without it."""

from __future__ import annotations

from ness_cli.stages.context import RunContext
from ness_cli.stages.models import new_model
from ness_cli.stages.retention import older_files, remove_older


def prune(context: RunContext, *, is_dry: bool = False) -> dict[str, int]:
    """Remove what neither the next task nor any accuracy that is to be measured needs.

    Models that follow from model 1 and updates go too, and are put together again when asked for.

    Args:
        context: The run, locked.
        is_dry: Remove nothing, and only return what would be removed.

    Returns:
        The bytes of every file, by its path in the run.

    Raises:
        DamagedError: If a record does not read back.
    """
    state = context.state()
    built = [t for t in range(1, state.num_tasks + 1) if state.of(t, "build").is_done]
    if not built:
        return {}
    method, earlier = context.method(new_model(context)), range(1, built[-1])
    if not is_dry:
        return remove_older(context, state, method, earlier)
    return {
        context.run.relative(path): path.stat().st_size
        for task_number, _, names in older_files(context, state, method, earlier)
        for path in (context.run.task(task_number).tensors(name) for name in names)
        if path.exists()
    }
