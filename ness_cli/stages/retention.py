"""What ``storage.keep=latest`` removes: files of which only the newest is needed."""

from __future__ import annotations

from collections.abc import Iterator

from ness_cli.files import read_json, remove_file, write_record
from ness_cli.methods.base import Method
from ness_cli.run_state import RECORDS, RunState, command
from ness_cli.stages.context import RunContext
from ness_cli.stages.models import MODEL, is_recomposable


def remove_older(
    context: RunContext, state: RunState, method: Method, task_number: int
) -> dict[str, int]:
    """Remove the files of tasks before ``task_number`` that nothing needs any more.

    They are those that the method declares so, unless the accuracies of their task are still to be
    measured with them, and models that can be put together again or whose accuracies are in; model
    1 stays. What is removed is written into the record first, so that a file that is gone on
    purpose is never taken for one that was lost.

    Returns:
        The bytes of every file removed, by its path in the run.
    """
    removed: dict[str, int] = {}
    for earlier, step, names in older_files(context, state, method, task_number):
        removed |= _remove(context, earlier, step, names)
    return removed


def older_files(
    context: RunContext, state: RunState, method: Method, task_number: int
) -> Iterator[tuple[int, str, list[str]]]:
    """Yield tasks before ``task_number``, a step of each, and its files that nothing needs."""
    declared = [file for file in method.files if file.needed == "newest"]
    scoring = {*method.reads("evaluate"), *method.reads_of_every_task("evaluate")}
    for earlier in range(1, task_number):
        is_scored = state.of(earlier, "evaluate").is_done
        needed = set() if is_scored else scoring
        for step in ("train", "build"):
            names = [f.name for f in declared if f.made_by == step and f.name not in needed]
            is_spare = is_scored or is_recomposable(context, earlier)
            if step == "train" and earlier > 1 and is_spare:
                names.append(MODEL)
            yield earlier, step, names


def _remove(context: RunContext, task: int, step: str, names: list[str]) -> dict[str, int]:
    folder = context.run.task(task)
    files = [folder.tensors(name) for name in names if folder.tensors(name).exists()]
    path = folder.record(RECORDS[step])
    if not files or not path.exists():
        return {}
    record = read_json(path, remedy=f"run: {command(context.run.path, step, task)}")
    gone = {context.run.relative(file): file.stat().st_size for file in files}
    record["removed"] = sorted({*record.get("removed", []), *gone})
    write_record(path, record)
    for file in files:
        remove_file(file)
    return gone
