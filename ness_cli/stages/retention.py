"""What ``storage.keep=latest`` removes: files of which only the newest is needed."""

from __future__ import annotations

from ness_cli.files import read_json, write_json
from ness_cli.run_state import RECORDS, RunState, command
from ness_cli.stages.context import RunContext
from ness_cli.stages.models import MODEL, is_recomposable


def remove_older(context: RunContext, state: RunState, task_number: int) -> None:
    """Remove the files of tasks before ``task_number`` that nothing needs any more.

    They are those that the method declares so, and models that can be put together again or whose
    accuracies are in; model 1 stays. What is removed is written into the record first, so that a
    file that is gone on purpose is never taken for one that was lost.
    """
    declared = [file for file in context.method_kind.files if file.needed == "newest"]
    for earlier in range(1, task_number):
        going = {
            step: [file.name for file in declared if file.made_by == step]
            for step in ("train", "build")
        }
        is_scored = state.of(earlier, "evaluate").is_done
        if earlier > 1 and (is_scored or is_recomposable(context, earlier)):
            going["train"].append(MODEL)
        for step, names in going.items():
            _remove(context, earlier, step, names)


def _remove(context: RunContext, task: int, step: str, names: list[str]) -> None:
    folder = context.run.task(task)
    files = [folder.tensors(name) for name in names if folder.tensors(name).exists()]
    path = folder.record(RECORDS[step])
    if not files or not path.exists():
        return
    record = read_json(path, remedy=f"run: {command(context.run.path, step, task)}")
    gone = {context.run.relative(file) for file in files}
    record["removed"] = sorted({*record.get("removed", []), *gone})
    write_json(path, record)
    for file in files:
        file.unlink()
