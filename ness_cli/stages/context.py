"""A run opened for a step: its settings, its data, a device; and what every step does alike."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ness_cli import numerics, registry, run_state, world
from ness_cli.console import Advance, Progress
from ness_cli.data.batches import Images
from ness_cli.data.image_budget import ImageBudget
from ness_cli.data.task_stream import SCHEMA, TaskStream
from ness_cli.errors import DamagedError, InputError, SettingsError, SystemRefusedError
from ness_cli.files import read_json
from ness_cli.methods.base import Method, Task
from ness_cli.nets.multi_head import MultiHead
from ness_cli.run_dir import RunDir
from ness_cli.run_state import RunState, StepState, command
from ness_cli.settings import yaml_files
from ness_cli.settings.identity import difference
from ness_cli.settings.resolve import Settings, build
from ness_cli.stop import StopRequest

METHODS = "ness_cli.methods"


@dataclass(frozen=True)
class Workplace:
    """Where and how a step runs; none of it belongs to a run's identity.

    Attributes:
        cache: Folder of prepared data.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        threads: CPU threads; torch's own choice when ``None``.
        progress: Told what is going on.
        stop: Asked whether to stop.
    """

    cache: Path
    device: str = "auto"
    threads: int | None = None
    progress: Progress = field(default_factory=Progress)
    stop: StopRequest = field(default_factory=StopRequest)

    def torch_device(self) -> torch.device:
        """Return the device, after setting the threads of the process.

        Raises:
            SettingsError: If there is no such kind of device.
            SystemRefusedError: If the machine does not have it.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        name = self.device
        if name == "auto":
            name = next((kind for kind, is_there in has.items() if is_there), "cpu")
        try:
            device = torch.device(name)
        except RuntimeError:
            device = torch.device("meta")
        if device.type not in ("cpu", *has):
            raise SettingsError(f"--device: {name!r} is not auto, cpu, cuda, cuda:N or mps")
        missing = device.type in has and not has[device.type]
        if missing or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
            raise SystemRefusedError(
                f"--device: {name} is not on this machine", "use --device auto or cpu"
            )
        return device


class RunContext:
    """A run opened for a step.

    Args:
        run: The run folder, prepared before.
        place: Where and how to run.

    Raises:
        InputError: If the folder is not a run, or its settings were edited by hand.
        DamagedError: If its files do not read back.
        SystemRefusedError: If the device is not there.
    """

    def __init__(self, run: RunDir, place: Workplace) -> None:
        self.run = run
        self.place = place
        self.device = place.torch_device()
        self.image_budget = ImageBudget(self.device)
        self.about = run_state.read_run_record(run)
        self.settings = read_settings(run, self.about)
        numerics.configure(self.settings.compute)
        self.fingerprint: str = self.about["fingerprint"]
        prepare = f"run: ness prepare --out {run.path}"
        manifest = read_json(run.stream, remedy=prepare)
        if manifest.get("schema") != SCHEMA:
            raise InputError(
                f"{run.path} was prepared by another version of ness ({manifest.get('schema')})",
                "prepare it anew with another --out",
            )
        self.stream = TaskStream(manifest, place.cache, remedy=prepare)

    def state(self) -> RunState:
        """Return which steps are done, read anew."""
        return run_state.read_state(self.run)

    def identity(self, kind: str, task: int) -> dict[str, Any]:
        """Return what the header of a tensor file of this run says."""
        return {"kind": kind, "run": self.fingerprint, "task": task}

    # -- data --------------------------------------------------------------------------------

    def images(self, number: int, split: str) -> Images:
        """Open one split of one task on the device."""
        info = self.stream.info(number)
        return Images(
            self.stream.split(number, split),
            task=number,
            mean=info.mean,
            std=info.std,
            device=self.device,
            budget=self.image_budget,
        )

    def task(self, number: int, step: str) -> Task:
        """Open the training data of a task, and of no other unless the method declares it."""
        past = range(1, number) if self.settings.options.uses_past_data(step) else ()
        return Task(
            number=number,
            num_classes=self.stream.info(number).num_classes,
            train=self.images(number, "train"),
            valid=self.images(number, "valid") if step == "train" else None,
            past=tuple(self.images(earlier, "train") for earlier in past),
            past_valid=tuple(self.images(earlier, "valid") for earlier in past if step == "train"),
        )

    # -- model and method --------------------------------------------------------------------

    @property
    def method_kind(self) -> type[Method]:
        """The class of the run's method."""
        name = self.settings.method.name
        kind: type[Method] = registry.load_class(METHODS, name, place="method.name")
        return kind

    def method(self, model: MultiHead) -> Method:
        """Return the run's method around a model, remembering nothing yet."""
        settings = self.settings
        return self.method_kind(
            model,
            settings.options,
            settings.train,
            compute=settings.compute,
            seed=settings.seed,
            batch_size=settings.evaluate.batch_size,
        )


def read_settings(run: RunDir, about: Mapping[str, Any]) -> Settings:
    """Return the settings of a prepared run.

    Raises:
        InputError: If they are not those the run was prepared with; names each key.
        DamagedError: If they are no settings any more.
    """
    try:
        settings = build(yaml_files.read(run.settings))
    except SettingsError as error:
        raise DamagedError(
            f"{run.settings} is damaged: {error.what}", "put it back as prepare wrote it"
        ) from error
    changed = difference(about["identity"], settings.identity())
    if changed:
        raise InputError(
            f"{run.settings} was changed after the run was prepared: {'; '.join(changed)}",
            "put the value back, or prepare another run with --out",
        )
    return settings


@contextlib.contextmanager
def run_log(run: RunDir, title: str) -> Iterator[logging.Logger]:
    """Append what a step does, and how it ends, to the run's log file."""
    logger = logging.Logger("ness")
    if not world.current().is_main:
        yield logger
        return
    handler = logging.FileHandler(run.log, encoding="utf-8")
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


class StoppableProgress(Progress):
    """Progress that also stops the work if somebody asked.

    Args:
        progress: Told what is going on.
        stop: Asked whether to stop.
        what: What becomes of the work, for the message.
        resume: Command that goes on with it.
    """

    def __init__(self, progress: Progress, stop: StopRequest, what: str, resume: str) -> None:
        self._progress, self._stop = progress, stop
        self._what, self._resume = what, resume

    @contextlib.contextmanager
    def track(self, description: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Follow a piece of work; raises ``StoppedError`` out of it."""
        with self._progress.track(description, total, done) as advance:

            def advance_or_stop(n: int = 1, info: str = "") -> None:
                advance(n, info)
                self._stop.check(self._what, self._resume)

            yield advance_or_stop

    def note(self, text: str) -> None:
        """Say something in passing."""
        self._progress.note(text)


def stopping(
    place: Workplace, resume: str, advance: Callable[[int, str], None]
) -> Callable[[int], None]:
    """Return ``advance`` that also stops the step if somebody asked."""

    def advance_or_stop(done: int) -> None:
        advance(done, "")
        place.stop.check("this step starts over, earlier steps are kept", resume)

    return advance_or_stop
