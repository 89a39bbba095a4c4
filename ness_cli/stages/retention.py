"""What ``storage.keep=latest`` removes: files of which only the newest is needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from ness_cli.files import read_json, remove_file, write_record
from ness_cli.methods.base import Method
from ness_cli.run_state import RECORDS, RunState, StepState, command
from ness_cli.stages.context import RunContext
from ness_cli.stages.models import MODEL, is_recomposable


def remove_older(
    context: RunContext, state: RunState, method: Method, earlier: Iterable[int]
) -> dict[str, int]:
    """Remove the files of earlier tasks that nothing needs any more.

    They are those that the method declares so, unless the accuracies of their task are still to be
    measured with them, and models that can be put together again or whose accuracies are in; model
    1 stays. What is removed is written into the record first, so that a file that is gone on
    purpose is never taken for one that was lost.

    Args:
        context: The run, locked.
        state: Which steps are done.
        method: The run's method around any of its models.
        earlier: The tasks to look at, of those before the newest that is consolidated.

    Returns:
        The bytes of every file removed, by its path in the run.
    """
    removed: dict[str, int] = {}
    for task, step, names in older_files(context, state, method, earlier):
        removed |= _remove(context, task, step, names)
    return removed


def older_files(
    context: RunContext, state: RunState, method: Method, earlier: Iterable[int]
) -> Iterator[tuple[int, str, list[str]]]:
    """Yield earlier tasks, a step of each, and its files that nothing needs; arguments as above."""
    declared = {file.name for file in method.files if file.needed == "newest"}
    scoring = {*method.reads("evaluate"), *method.reads_of_every_task("evaluate")}
    way = method.recomposition
    follows = way is not None and declared.isdisjoint((*way.before, *way.own))
    for task in earlier:
        for step in ("train", "build"):
            there = _names_there(context, state.of(task, step))
            names = [name for name in there if name in declared]
            if step == "train" and task > 1 and MODEL in there:
                names.append(MODEL)
            # Of most tasks nothing is left, and no accuracies are read for it.
            if names and not state.of(task, "evaluate").is_done:
                # Done: what it follows from is of its own making. A task that closed layers kept
                # from changing may have left none of it.
                is_done = state.of(task, "train").is_done
                is_spare = follows and is_done and is_recomposable(context, task)
                names = [n for n in names if (is_spare if n == MODEL else n not in scoring)]
            if names:
                yield task, step, names


def _names_there(context: RunContext, step: StepState) -> list[str]:
    """Return the names of a step's files that are there, also if its record calls them removed."""
    root = os.fspath(context.run.path)
    files = (file for file in step.record.get("outputs", {}) if os.path.exists(f"{root}/{file}"))
    return [PurePosixPath(file).stem for file in files]


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
    context.record_changed(task)
    for file in files:
        remove_file(file)
    return gone
