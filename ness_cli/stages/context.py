"""A run opened for a step: its settings, its data, a device; and what every step does alike."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from ness_cli import numerics, registry, run_state
from ness_cli.data.batches import Images
from ness_cli.data.image_budget import ImageBudget
from ness_cli.data.task_stream import TaskStream
from ness_cli.errors import InputError
from ness_cli.extensions import extension_of, fingerprint_of, read_manifest, way_to_prepare
from ness_cli.file_kinds import require_file
from ness_cli.files import remove_file
from ness_cli.methods.base import Method
from ness_cli.methods.task import Task
from ness_cli.nets.multi_head import MultiHead
from ness_cli.processes import current_processes
from ness_cli.run_dir import RunDir
from ness_cli.run_state import RunState, StepState, command
from ness_cli.settings.model import Settings
from ness_cli.settings.resolve import build
from ness_cli.settings.stored import read_stored, refuse_changed, with_appended
from ness_cli.stages.device import torch_device
from ness_cli.stages.tracking import Tracking
from ness_cli.words import printable
from ness_cli.workplace import Workplace

METHODS = "ness_cli.methods"


class RunContext:
    """A run opened for a step.

    Args:
        run: The run folder, prepared before.
        workplace: Where and how to run.

    Raises:
        InputError: If the folder is not a run, or its settings were edited by hand.
        DamagedError: If its files do not read back.
        SystemRefusedError: If the device is not there.
    """

    def __init__(self, run: RunDir, workplace: Workplace) -> None:
        self.run = run
        self.workplace = workplace
        self.device = torch_device(workplace)
        self.image_budget = ImageBudget(self.device)
        self.run_record = run_state.read_run_record(run)
        self.settings = read_settings(run, self.run_record)
        numerics.configure(self.settings.compute)
        manifest = read_manifest(run, self.run_record)
        self.stream = TaskStream(manifest, workplace.cache, remedy=way_to_prepare(run.path))
        self.tracking = Tracking(self)
        self._state: RunState | None = None
        self._changed: set[int] = set()
        self._knows_changed = False  # before it is asked for the first time, others may have

    def state(self, *, redone: tuple[int, str] | None = None) -> RunState:
        """Return which steps are done.

        All records are read the first time; then those are that this process has changed, as nobody
        else may while it holds the run.

        Args:
            redone: Task and step that are to be made again, as ``RunState`` takes it.

        Raises:
            InputError: If the folder holds another run by now, or none.
            DamagedError: If a record does not read back.
        """
        self.require_same_run()
        if self._state is None:
            self._state = run_state.read_state(self.run, redone=redone)
        elif redone is not None:
            self._state.redone = redone
        return self._state

    def record_changed(self, task: int) -> None:
        """Note that the record of a step of a task was written or removed."""
        if self._state is not None:
            self._state.forget(task)
        self._changed.add(task)

    def changed(self, tasks: range) -> list[int]:
        """Return those of some tasks that this process has changed a record of since it last asked.

        All of them the first time: before, others may have.
        """
        known = self._changed.intersection(tasks) if self._knows_changed else tasks
        self._changed.difference_update(tasks)
        self._knows_changed = True
        return sorted(known)

    def require_places(self, task: int, step: str) -> None:
        """Refuse what is no file in the place of one of a task, before anything old goes.

        Args:
            task: Number of the task.
            step: The step that is about to be made.

        Raises:
            InputError: Naming it; it is not ours to remove.
        """
        for path in sorted(self.run.task(task).path.glob("*")):
            if path.suffix in (".safetensors", ".json", ".jsonl"):
                require_file(path, f"run: {command(self.run.path, step, task)}")

    def remove_record(self, task: int, step: str) -> None:
        """Remove the record of a step that is about to be made anew, by one of all processes."""
        if current_processes().is_main:
            remove_file(self.run.task(task).record(run_state.RECORDS[step]))
        self.record_changed(task)

    def require_same_run(self) -> None:
        """Refuse to go on in a folder that was deleted, or holds another run by now.

        Raises:
            InputError: If it is so.
        """
        run_state.require_same_run(self.run, self.run_record)

    def identity(self, kind: str, task: int) -> dict[str, Any]:
        """Return what the header of a tensor file of this run says."""
        return {"kind": kind, "run": self.fingerprint(task, self.made_by(kind)), "task": task}

    def made_by(self, kind: str) -> str:
        """Return the step that makes a tensor file: ``train`` or ``build``."""
        made = {file.name: file.made_by for file in self.method_kind.files}
        return made.get(kind, "train")  # the model, a checkpoint

    def fingerprint(self, task: int, step: str) -> str:
        """Return a hash of all that the files of a step depend on."""
        return fingerprint_of(self.run_record, task, step)

    def settings_of(self, task: int) -> Settings:
        """Return the settings that a task is learned with: appended ones may have their own."""
        extension = extension_of(self.run_record, task)
        if extension is None:
            return self.settings
        return with_appended(self.settings, extension.settings, self.run.run)

    # -- data --------------------------------------------------------------------------------

    def images(self, task_number: int, split: str) -> Images:
        """Open one split of one task on the device."""
        info = self.stream.info(task_number)
        return Images(
            self.stream.split(task_number, split),
            task=task_number,
            mean=info.mean,
            std=info.std,
            device=self.device,
            budget=self.image_budget,
        )

    def task(self, task_number: int, step: str) -> Task:
        """Open the training data of a task, and of no other unless the method declares it."""
        past = range(1, task_number) if self.settings.options.uses_past_data(step) else ()
        valid = self.images(task_number, "valid") if step == "train" else None
        return Task(
            number=task_number,
            num_classes=self.stream.num_classes(task_number),
            train=self.images(task_number, "train"),
            valid=valid or None,  # there may be no images in it
            past=tuple(self.images(earlier, "train") for earlier in past),
            past_valid=tuple(self.images(earlier, "valid") for earlier in past if step == "train"),
        )

    # -- model and method --------------------------------------------------------------------

    @property
    def method_kind(self) -> type[Method]:
        """The class of the run's method."""
        name = self.settings.method.name
        kind: type[Method] = registry.load_class(METHODS, name, setting="method.name")
        return kind

    def method(self, model: MultiHead, task_number: int = 1) -> Method:
        """Return the run's method around a model, remembering nothing yet.

        Args:
            model: The network.
            task_number: Task whose settings of training count, where it trains or consolidates.
        """
        settings = self.settings_of(task_number)
        return self.method_kind(
            model,
            settings.options,
            settings.train,
            compute=settings.compute,
            seed=settings.seed,
            batch_size=settings.evaluate.batch_size,
        )


def read_settings(run: RunDir, record: Mapping[str, Any]) -> Settings:
    """Return the settings of a prepared run.

    Raises:
        InputError: If they are not those the run was prepared with; names each key.
        DamagedError: If they are no settings any more.
        SystemRefusedError: If the system does not let them be read.
    """
    made_by = str(record.get("versions", {}).get("ness", ""))
    remedy = way_to_prepare(run.path)
    settings = build(read_stored(run.settings, remedy=remedy, made_by=made_by))
    refuse_changed(run.settings, settings, record, remedy=remedy)
    return settings


class _LogFile(logging.FileHandler):
    """The log of a run; a line that a full disk does not take stops nothing and hides no error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 logging's own name
        """Leave the line out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a line whose names command no terminal that shows it."""
        return printable(super().format(record), keep="\n\t")

    def close(self) -> None:
        """Close the file; what it did not take is tried once more, and left out."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def run_log(run: RunDir, title: str) -> Iterator[logging.Logger]:
    """Append what a step does, and how it ends, to the run's log file.

    Raises:
        InputError: If something else is in its place.
    """
    logger = logging.Logger("ness")
    if not current_processes().is_main:
        yield logger
        return
    require_file(run.log, "type the same command again")
    handler = _LogFile(run.log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        logger.info("%s: starts", title)
        yield logger
        logger.info("%s: done", title)
    except BaseException as error:
        logger.error("%s: %s: %s", title, type(error).__name__, error)
        raise
    finally:
        handler.close()


def step_to_redo(step: str, task: int | None, *, force: bool) -> tuple[int, str] | None:
    """Return the first step whose record may be damaged where a command line names one.

    That is the step itself if it is to be made again, else the one that comes after it.
    """
    if task is None:
        return None
    index = run_state.STEPS.index(step) + (not force)
    more, index = divmod(index, len(run_state.STEPS))
    return task + more, run_state.STEPS[index]


def require_task(state: RunState, step: str, task: int | None) -> StepState | None:
    """Return the step to make: that of the given task, else the first that is not done.

    Raises:
        InputError: If the run has no such task.
    """
    if task is None:
        return state.next(step)
    if not 1 <= task <= state.num_tasks:
        raise InputError(f"--task: {task} is not between 1 and {state.num_tasks}")
    return state.of(task, step)


def require_done(state: RunState, task: int, step: str) -> None:
    """Refuse to go on unless a step that comes before is done.

    Raises:
        InputError: If it is not; names the command that makes it.
    """
    before = state.of(task, step)
    if not before.is_done:
        what = f"{run_state.COMMANDS[step]} of task {task}"
        how = f"is stale: {before.why}" if before.why else "has not been done"
        raise InputError(f"{what} {how}", f"run: {command(state.run.path, step, task)}")
