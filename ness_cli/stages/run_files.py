"""The tensor files that a step reads: verified, and noted with their hashes."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from functools import cache
from typing import Any

from ness_cli import run_state, tensor_files
from ness_cli.hashing import sha256_of_file
from ness_cli.methods.base import Method
from ness_cli.methods.files import Tensors
from ness_cli.run_state import command
from ness_cli.stages.context import RunContext


class RunFiles:
    """Reads tensor files of a run for one step.

    Args:
        context: The run.

    Attributes:
        inputs: SHA-256 of every file read, by its path in the run: what the step depends on.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.inputs: dict[str, str] = {}
        self._outputs = cache(self._outputs_of)
        self._stored = cache(self._stored_in)

    def exists(self, task: int, name: str) -> bool:
        """Return whether a tensor file of a task is there."""
        return self.context.run.has(task, name)

    def read(
        self,
        task: int,
        name: str,
        *,
        is_input: bool = True,
        tensors: Container[str] | None = None,
    ) -> Tensors:
        """Read a tensor file of a task and verify it.

        Args:
            task: Number of the task.
            name: Name of the file without its ending.
            is_input: Whether the step depends on it.
            tensors: Names of those that are wanted; all when ``None``.

        Raises:
            InputError: If it was never written, or belongs to another run.
            DamagedError: If it is not what its step wrote.
        """
        run = self.context.run
        path = run.task(task).tensors(name)
        relative = run.relative(path)
        step = self.context.made_by(name)
        sha256 = self._outputs(task, step).get(relative)
        remedy = f"run: {command(run.path, step, task)} --force"
        identity = self.context.identity(name, task)
        found = tensor_files.read(path, identity, remedy=remedy, sha256=sha256, names=tensors)
        if is_input:
            self.inputs[relative] = sha256 or sha256_of_file(path)
        return found

    def read_all(self, task: int, names: Iterable[str]) -> dict[str, Tensors]:
        """Read several files of a task, by name; errors as in ``read``."""
        return {name: self.read(task, name) for name in names}

    def stored(self, task: int, name: str) -> list[tensor_files.StoredTensor]:
        """Return what tensors a file of a task holds; the step does not depend on them.

        Raises:
            InputError: If it was never written.
            DamagedError: If its header does not read back.
        """
        return self._stored(task, name)

    def load_memory(self, method: Method, step: str, task: int) -> None:
        """Give a method what ``step`` needs of what it left up to ``task``; errors as in ``read``.

        Nothing before task 1. Building gets what training left with the task after, which is the
        one that is built.
        """
        names = method.reads_of_every_task(step)
        if task >= 1:
            method.load_memory(self.read_all(task, method.reads(step)))
        for task_number in range(1, task + 1) if names else ():
            method.load_task_memory(task_number, self.read_all(task_number, names))
        trained = [name for name in names if self.context.made_by(name) == "train"]
        if step == "build" and trained:
            method.load_task_memory(task + 1, self.read_all(task + 1, trained))

    def load_training(self, method: Method, task: int) -> None:
        """Give a method what consolidation needs of the training of the same task."""
        if names := method.reads_of_training():
            method.load_task_memory(task, self.read_all(task, names))

    def _stored_in(self, task: int, name: str) -> list[tensor_files.StoredTensor]:
        run = self.context.run
        remedy = f"run: {command(run.path, self.context.made_by(name), task)} --force"
        return tensor_files.stored(run.task(task).tensors(name), remedy=remedy)

    def _outputs_of(self, task: int, step: str) -> Mapping[str, Any]:
        """Return what a step of a task recorded of its files."""
        record = run_state.read_record(self.context.run, task, step)
        outputs: Mapping[str, Any] = record.get("outputs", {})
        return outputs
