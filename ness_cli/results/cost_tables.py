"""Tables of what accuracies were bought with: bytes kept, steps, seconds."""

from __future__ import annotations

from collections.abc import Sequence

from ness_cli.results.accuracy_matrix import total
from ness_cli.results.costs import Costs
from ness_cli.results.number_formats import human_bytes, human_count, human_seconds
from ness_cli.results.read_run import RunResult
from ness_cli.results.run_names import RunNames
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.words import fixed

_KEPT_NOTES = (
    "memory: besides the weights, what later steps read; images: pixels among it",
    "own: numbers of single tasks, as heads and masks",
    "trained: parameters that training the last task may change",
)
_STEP_NOTES = (
    "time: of a step after task 1, median over tasks",
    "passes: of a batch, forth and back, in a step of task 2; task: whether layers must know it",
)
_RATIO_NOTE = "cost: time over finetune's, of runs on one network and machine"


def kept_table(runs: Sequence[RunResult], found: Sequence[Costs], names: RunNames) -> Table:
    """Return what the runs keep, and how much of it trains."""
    table = plain_table("run", "weights", "memory", "images", "own", "trained")
    for run, own in zip(runs, found, strict=True):
        sizes = (own.model_bytes, own.memory_bytes, own.image_bytes)
        counts = (own.task_numbers, own.trained_numbers)
        table.add_row(
            names.name(run.path),
            *("-" if size is None else human_bytes(size) for size in sizes),
            *("-" if count is None else human_count(count) for count in counts),
        )
    return titled(names.title("What is kept after the last task"), table, *_KEPT_NOTES)


def effort_table(runs: Sequence[RunResult], found: Sequence[Costs], names: RunNames) -> Table:
    """Return what a step of the runs costs, and whether their layers need the task."""
    table = plain_table("run", "time", "cost", "passes", "task")
    for run, own in zip(runs, found, strict=True):
        table.add_row(
            names.name(run.path),
            "-" if own.step_seconds is None else f"{1000 * own.step_seconds:.1f} ms",
            "-" if own.step_ratio is None else fixed(own.step_ratio),
            "-" if own.passes is None else str(own.passes),
            "-" if own.needs_task is None else "yes" if own.needs_task else "no",
        )
    note = _RATIO_NOTE if any(own.step_ratio is not None for own in found) else ""
    return titled(names.title("What a step costs"), table, *_STEP_NOTES, note)


def cost_table(runs: Sequence[RunResult], names: RunNames) -> Table:
    """Return time and bytes of the runs."""
    table = plain_table("run", "train", "build", "evaluate", "on disk", "peak RAM")
    for run in runs:
        times = [total(run.seconds(step)) for step in ("train", "build", "evaluate")]
        sizes = [total(run.bytes_written()), run.peak_memory()]
        table.add_row(
            names.name(run.path),
            *("-" if seconds is None else human_seconds(seconds) for seconds in times),
            *("-" if size is None else human_bytes(round(size)) for size in sizes),
        )
    determinism = ", ".join(sorted({run.determinism for run in runs}))
    return titled(names.title("Time and bytes"), table, f"determinism: {determinism}")


def steps_table(run: RunResult) -> Table:
    """Return time and bytes of every step of a run."""
    table = plain_table("task", "train", "build", "evaluate", "bytes written")
    columns = [run.seconds(step) for step in ("train", "build", "evaluate")]
    for task_number, (*seconds, size) in enumerate(
        zip(*columns, run.bytes_written(), strict=True), start=1
    ):
        cells = ["-" if s is None else human_seconds(s) for s in seconds]
        table.add_row(str(task_number), *cells, "-" if size is None else human_bytes(size))
    return titled("Per task", table)
