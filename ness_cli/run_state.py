"""Which steps of a run are done, which are stale and why, and what comes next.

Nothing is stored for this. Every finished step leaves a record with the hashes of the tensor files
it read and wrote; a step is stale when a file it read has been made anew with other content, or is
the work of a stale step.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ness_cli import record_shapes
from ness_cli.errors import DamagedError, InputError
from ness_cli.extensions import fingerprint_of, way_to_prepare
from ness_cli.files import read_json
from ness_cli.run_dir import RunDir

RUN = "ness.run/1"
"""What ``run.json`` says that it is."""
STEPS = ("train", "build", "evaluate")
_TENSOR_STEPS = ("train", "build")  # later steps depend on what they write
RECORDS = {"train": "train", "build": "subspace", "evaluate": "accuracy"}
COMMANDS = {"train": "train-task", "build": "build-subspace", "evaluate": "evaluate"}


def schema_of(step: str) -> str:
    """Return what the record of a step says that it is."""
    return f"ness.{RECORDS[step]}/1"


@dataclass(frozen=True)
class StepState:
    """State of one step of one task.

    Attributes:
        task: Number of the task, from 1.
        step: ``train``, ``build`` or ``evaluate``.
        status: ``done``, ``stale``, ``started`` (a checkpoint is there) or ``pending``.
        why: Why it is stale, else empty.
        record: What the step recorded when it ended, empty if it never did.
    """

    task: int
    step: str
    status: str
    why: str
    record: Mapping[str, Any]

    @property
    def is_done(self) -> bool:
        """Whether the step's results can be used."""
        return self.status == "done"


class RunState:
    """States of all steps of a run, in the order in which they are made.

    The record of a step is read when the step is asked for, after those that it may depend on, and
    is known from then on: what a step costs must not grow with the tasks before it.

    Args:
        run: The run folder.
        run_record: The content of ``run.json``.
        redone: Task and step that are to be made again: where the record of that step is damaged,
            or of one that comes after it, the step is stale.
    """

    def __init__(
        self,
        run: RunDir,
        run_record: Mapping[str, Any],
        *,
        redone: tuple[int, str] | None = None,
    ) -> None:
        self.run = run
        self.num_tasks = int(run_record["num_tasks"])
        self._run_record = run_record
        self.redone = redone
        # Training and building, without a gap from task 1 on; accuracies, which no step depends on.
        self._states: list[StepState] = []
        self._accuracies: dict[int, StepState] = {}
        self._made: dict[str, str] = {}
        self._stale: set[str] = set()

    @property
    def steps(self) -> tuple[StepState, ...]:
        """All of them; every record is read.

        Raises:
            DamagedError: If one does not read back.
        """
        return tuple(self._all())

    def of(self, task: int, step: str) -> StepState:
        """Return the state of one step.

        Raises:
            DamagedError: If a record that it depends on does not read back.
        """
        while len(self._states) < len(_TENSOR_STEPS) * task:
            self._read_next()
        if step != "evaluate":
            return self._states[(task - 1) * len(_TENSOR_STEPS) + _TENSOR_STEPS.index(step)]
        if task not in self._accuracies:
            self._accuracies[task] = self._read(task, step)
        return self._accuracies[task]

    def forget(self, task: int) -> None:
        """Read the records from a task on anew: one of them was written or removed."""
        kept = len(_TENSOR_STEPS) * (task - 1)
        for state in self._states[kept:]:
            for name in state.record.get("outputs", {}):
                self._made.pop(name, None)
                self._stale.discard(name)
        del self._states[kept:]
        # Rows of accuracies grow with the tasks, and few are asked for again.
        self._accuracies.clear()

    def _all(self) -> Iterator[StepState]:
        for task in range(1, self.num_tasks + 1):
            for step in STEPS:
                yield self.of(task, step)

    def _read_next(self) -> None:
        task, index = divmod(len(self._states), len(_TENSOR_STEPS))
        state = self._read(task + 1, _TENSOR_STEPS[index])
        self._made.update(state.record.get("outputs", {}))
        if state.status == "stale":
            self._stale.update(state.record.get("outputs", {}))
        self._states.append(state)

    def _read(self, task: int, step: str) -> StepState:
        why = ""
        try:
            record = read_record(self.run, task, step)
        except DamagedError as error:
            if not self._is_made_again(task, step):
                raise
            record, why = {}, error.what
        if record:
            fingerprint = fingerprint_of(self._run_record, task, step)
            why = next(_reasons(self.run, record, fingerprint, self._made, self._stale), "")
        return StepState(task, step, _status(self.run, task, step, record, why), why, record)

    def _is_made_again(self, task: int, step: str) -> bool:
        """Return whether a step is the one that is to be made again, or comes after it."""
        if self.redone is None:
            return False
        first, which = self.redone
        return (task, STEPS.index(step)) >= (first, STEPS.index(which))

    def next(self, step: str | None = None) -> StepState | None:
        """Return the first step (of that kind) that is not done, or ``None``."""
        steps = STEPS if step is None else (step,)
        each = (self.of(task, name) for task in range(1, self.num_tasks + 1) for name in steps)
        return next((s for s in each if not s.is_done), None)

    def stale(self, until: int) -> list[StepState]:
        """Return the finished steps of tasks up to ``until`` that cannot be used as they are."""
        return [s for s in self._all() if s.status == "stale" and s.task <= until]

    def next_command(self) -> str:
        """Return the command that makes the next step, or the report when all is done."""
        following = self.next()
        if following is None:
            return f"ness report {shlex.quote(str(self.run.path))}"
        # The step commands pick the first task that is not done by themselves.
        return command(self.run.path, following.step)


def command(run: Path, step: str, task: int | None = None) -> str:
    """Return the command line that makes a step: ``ness train-task RUN --task 2``."""
    suffix = f" --task {task}" if task is not None else ""
    return f"ness {COMMANDS[step]} {shlex.quote(str(run))}{suffix}"


def read_run_record(run: RunDir) -> dict[str, Any]:
    """Return ``run.json``.

    Raises:
        InputError: If the folder is not a run.
        DamagedError: If the file does not read back.
    """
    remedy = f"put it back; or remove it, and {way_to_prepare(run.path)}"
    try:
        way = _way_to_a_run(run.path)
        return read_json(run.run, remedy=way, schema=RUN, shape=record_shapes.RUN)
    except DamagedError as error:
        raise DamagedError(error.what, remedy) from error


def require_same_run(run: RunDir, record: Mapping[str, Any]) -> None:
    """Refuse to go on in a run folder that was deleted, or replaced, since it was opened.

    A lock does not tell: it is a file of the folder, and went with it.

    Args:
        run: The run folder.
        record: What ``run.json`` was when it was opened.

    Raises:
        InputError: If there is none any more, or that of another run, or of the same prepared anew.
        DamagedError: If it does not read back.
    """
    if not run.run.exists():
        how = "is gone"
    elif _when_made(read_run_record(run)) != _when_made(record):
        how = "is another run now"
    else:
        return
    raise InputError(
        f"{run.path} {how}: the run that this process worked on was deleted or replaced",
        "nothing was written there; to see what is there now: ness status"
        f" {shlex.quote(str(run.path))}",
    )


def _when_made(record: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what no other run has alike, whatever is appended to it."""
    return record.get("fingerprint"), record.get("created")


def _way_to_a_run(path: Path) -> str:
    """Return what to do about a folder that is no run: name the one that was meant, or make it."""
    out = shlex.quote(str(path))
    if RunDir(path).settings.exists():
        return f"put it back, or {way_to_prepare(path)}"
    if path.is_dir() and any(path.iterdir()):
        # Very likely the parent of runs, which is to become none itself.
        return f"name a run folder; ness status {out} shows those below"
    for parent, pattern in ((path.parent, "*/run.json"), (path.parent.parent, "*/*/run.json")):
        runs = {
            str(found.parent.relative_to(parent)): found.parent for found in parent.glob(pattern)
        }
        near = difflib.get_close_matches(str(path.relative_to(parent)), runs, n=1)
        if near:
            return f"did you mean {runs[near[0]]}? Or, for a new run: ness prepare --out {out}"
    return f"run: ness prepare --out {out}"


def read_state(run: RunDir, *, redone: tuple[int, str] | None = None) -> RunState:
    """Return the state of every step, all records of a run read.

    Args:
        run: The run folder.
        redone: As ``RunState`` takes it.

    Raises:
        InputError: If the folder is not a run.
        DamagedError: If a record does not read back.
    """
    state = RunState(run, read_run_record(run), redone=redone)
    _ = state.steps
    return state


def read_record(run: RunDir, task: int, step: str) -> dict[str, Any]:
    """Return the record of a step, empty if it was never made.

    Raises:
        DamagedError: If it does not read back.
    """
    path = run.task(task).record(RECORDS[step])
    if not path.exists():
        return {}
    remedy = f"run: {command(run.path, step, task)} --force"
    record = read_json(path, remedy=remedy, schema=schema_of(step), shape=record_shapes.STEP)
    if record.get("task", task) != task:
        what = f"it is the record of task {record['task']}"
        raise DamagedError(f"{path} is damaged: {what}", remedy)
    return record


def _status(run: RunDir, task: int, step: str, record: Mapping[str, Any], why: str) -> str:
    if record or why:
        return "stale" if why else "done"
    return "started" if step == "train" and run.task(task).checkpoint.exists() else "pending"


def _reasons(
    run: RunDir,
    record: Mapping[str, Any],
    fingerprint: str,
    made: Mapping[str, str],
    stale: Collection[str],
) -> Iterator[str]:
    if record.get("fingerprint") != fingerprint:
        yield "it was made with other settings"
    for name, sha256 in record.get("inputs", {}).items():
        if name not in made:
            yield f"{name}, which it read, is to be made again"
        elif made[name] != sha256:
            yield f"{name}, which it read, has been made anew"
        elif name in stale:
            yield f"{name}, which it read, is stale itself"
    removed = record.get("removed", [])
    for name in record.get("outputs", {}):
        if name not in removed and not (run.path / name).exists():
            yield f"{name}, which it wrote, is gone"
