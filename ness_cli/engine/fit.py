"""Training of one task: the loop that every method's hooks hang in.

The loop can stop at any step boundary and go on later, in another process, with the same bits. What
it draws at random has an address (seed, purpose, task, epoch), and what has none is in the
checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from ness_cli import seeding
from ness_cli.engine import checkpoint as ckpt
from ness_cli.engine.average import WeightAverage
from ness_cli.engine.epoch import epoch_batches
from ness_cli.engine.fit_state import FitContext, FitState
from ness_cli.engine.score import Score, refuse_non_finite
from ness_cli.engine.step_boundary import StepBoundary
from ness_cli.engine.stepper import Stepper
from ness_cli.engine.validation import Validation
from ness_cli.methods.base import Method
from ness_cli.methods.step import StepProgress, TrainingForward
from ness_cli.methods.task import Phase, Task
from ness_cli.optim.make import set_lr
from ness_cli.optim.schedule import Schedule
from ness_cli.processes import current_processes


class Fit:
    """The training of one task.

    Args:
        method: Has begun the task.
        task: The task.
        context: Everything else.
    """

    def __init__(self, method: Method, task: Task, context: FitContext) -> None:
        self.method = method
        self.task = task
        self.context = context
        self.state = FitState()
        self.sets = method.training_sets(task)
        self.validation = Validation(method, task, seed=context.seed, batch_size=context.batch_size)
        self.phases = method.phases(task)
        # A batch of one that normalises by itself is all zeros.
        self.smallest = 1 if method.model.statistics == "none" else 2
        size = context.train.batch_size
        self.steps_per_epoch = sum(len(i.batch_slices(size, self.smallest)) for i in self.sets)
        self.forward = TrainingForward(method.model, method.compute)
        self.device = task.train.labels.device
        self.loss_sum = torch.zeros((), device=self.device)
        self.best: dict[str, torch.Tensor] = {}

    @property
    def num_steps(self) -> int:
        """Steps of all phases together, at most."""
        return self.steps_per_epoch * sum(phase.num_epochs for phase in self.phases)

    def train(self) -> FitState:
        """Train to the end, resuming from a checkpoint if there is one.

        Returns:
            The final state; the model holds the weights that the settings ask for.

        Raises:
            StoppedError: If a stop was requested; a checkpoint is on disk then.
            NumericalError: If the loss is not finite; names the layer.
            DamagedError: If there is a checkpoint that does not read back.
        """
        saved = self.context.checkpoint.load()
        if saved is not None:
            self.state = FitState(**saved[1])
        self.context.on_epoch(self.state.history)
        self.boundary = StepBoundary(self.context.checkpoint_seconds, self.context.stop)
        while self.state.phase < len(self.phases):
            self._train_phase(self.phases[self.state.phase], saved)
            saved = None
            self.state.phase += 1
            self.state.epoch, self.state.best = 0, None
        return self.state

    # -- a phase -----------------------------------------------------------------------------

    def _train_phase(
        self, phase: Phase, saved: tuple[dict[str, torch.Tensor], dict[str, Any]] | None
    ) -> None:
        context, state = self.context, self.state
        is_resumed = saved is not None
        if saved is not None:
            self.method.load_state_tensors(_part(saved[0], "method"))
        self.method.begin_phase(self.task, phase, is_resumed=is_resumed)
        train = phase.train or context.train
        self.stepper = Stepper(self.method, self.task, train, self.forward)
        self.parameters = self.stepper.parameters
        if self.stepper.optimizer is None:
            self._skip(phase)
            return
        self.optimizer = self.stepper.optimizer
        num_steps = self.steps_per_epoch * phase.num_epochs
        self.schedule = Schedule.start(train, num_steps, phase.num_epochs)
        averaged = math.ceil(train.average * num_steps)
        self.average = WeightAverage(num_steps - averaged)
        if saved is not None:
            self._restore(saved[0])
        while state.epoch < phase.num_epochs:
            self._train_epoch(phase)
            if self._end_epoch(phase):
                break
        self._end_phase(phase)

    def _skip(self, phase: Phase) -> None:
        """Leave out a phase that has nothing to train."""
        self.state.skipped.append(phase.name)
        self.context.advance(self.steps_per_epoch * phase.num_epochs, "skipped")
        self.context.note(
            f"task {self.task.number}: nothing is open to training in phase {phase.name!r}, it is"
            " skipped"
        )

    def _end_phase(self, phase: Phase) -> None:
        """Load the weights that the settings ask for, and note what was measured of them."""
        entries = [entry for entry in self.state.history if entry["phase"] == phase.name]
        kept = entries[-1]
        if self.context.train.weights == "best" and self.best:
            self._load_parameters(self.best)
            kept = min(entries, key=lambda entry: entry["valid_loss"])
        self.best = {}
        measured = ("train_loss", "valid_loss", "valid_accuracy")
        self.state.kept = {key: kept[key] for key in measured if key in kept}
        if self.average.count:
            self._load_parameters(self.average.tensors)
            if self.validation.is_possible:
                where = f"task {self.task.number}, averaged weights"
                self.state.kept |= _as_json(self.validation.score(where))

    def _train_epoch(self, phase: Phase) -> None:
        state, task_number = self.state, self.task.number
        # Counted over all phases, so that no two epochs of a task draw the same numbers.
        address = sum(p.num_epochs for p in self.phases[: state.phase]) + state.epoch
        generator = seeding.generator(self.context.seed, "order", task_number, address)
        size = self.context.train.batch_size
        batches = epoch_batches(self.sets, size, generator, smallest=self.smallest)
        if state.step == 0:
            seeding.seed_default(self.context.seed, "training", task_number, address)
            self.loss_sum.zero_()
        self.method.model.train()
        processes = current_processes()
        while state.step < len(batches):
            if processes.size > 1:
                # Every process draws for its own images; nothing has to be in the checkpoint.
                purpose = f"training, process {processes.rank}, step {state.step}"
                seeding.seed_default(self.context.seed, purpose, task_number, address)
            started = time.monotonic()
            images, positions = batches[state.step]
            progress = StepProgress(state.epoch, state.step, len(batches), phase.num_epochs)
            set_lr(self.optimizer, self.schedule.at(state.epoch * len(batches) + state.step))
            loss = self.stepper.step(images, positions, progress)
            self.loss_sum += loss * len(positions)
            self.average.add(self.parameters, state.epoch * len(batches) + state.step)
            state.step += 1
            state.num_steps_done += 1
            state.seconds += time.monotonic() - started
            self.context.advance(1, f"epoch {state.epoch + 1}/{phase.num_epochs}{self._recent()}")
            self._step_boundary()

    def _end_epoch(self, phase: Phase) -> bool:
        """Validate, record, adapt the rate; return whether the task is to end early."""
        context, state, started = self.context, self.state, time.monotonic()
        current_processes().sum_([self.loss_sum])
        entry: dict[str, Any] = {
            "phase": phase.name,
            "epoch": state.epoch + 1,
            "lr": self.schedule.at((state.epoch + 1) * self.steps_per_epoch - 1),
            "train_loss": float(self.loss_sum) / sum(map(len, self.sets)),
        }
        self._refuse_non_finite(self.loss_sum)
        self.method.after_epoch(self.task)
        is_best, drop = False, None
        if self.validation.is_possible:
            where = f"task {self.task.number}, validation of epoch {state.epoch + 1}"
            score = self.validation.score(where)
            entry |= _as_json(score)
            is_best, drop = self.schedule.after_epoch(score.loss)
        if is_best and context.train.weights == "best":
            self.best = {n: p.detach().clone() for n, p in self.parameters.items()}
        if drop:
            self.method.on_lr_drop(drop)
        state.seconds += time.monotonic() - started
        state.history.append(entry | {"seconds": round(state.seconds, 3)})
        context.on_epoch(state.history)
        state.epoch, state.step = state.epoch + 1, 0
        return drop == 0.0

    def _recent(self) -> str:
        last = self.state.history[-1] if self.state.history else {}
        if "valid_accuracy" in last:
            return f", validation {last['valid_accuracy']:.1f} %"
        return f", loss {last['train_loss']:.3f}" if last else ""

    def _refuse_non_finite(self, loss_sum: torch.Tensor) -> None:
        """Refuse to go on, or to save, with a loss or weights that are not finite."""
        weights = [parameter.detach().sum() for parameter in self.parameters.values()]
        if not torch.isfinite(torch.stack([loss_sum, *weights])).all():
            where = f"task {self.task.number}, epoch {self.state.epoch + 1}"
            refuse_non_finite(self.method, self.task.train, where)

    # -- checkpoints -------------------------------------------------------------------------

    def _step_boundary(self) -> None:
        is_due, is_stopping = self.boundary.after_step()
        if is_due:
            self._save()
        # Of what was agreed on before saving: a signal may have come since.
        if is_stopping:
            self.context.stop.check("a checkpoint is saved", self.context.resume)

    def _save(self) -> None:
        state, schedule = self.state, self.schedule
        state.lr, state.patience_left = schedule.lr, schedule.patience_left
        state.num_averaged = self.average.count
        # Infinity is no JSON: no best yet is stored as nothing.
        state.best = schedule.best if schedule.best < float("inf") else None
        parts: dict[str, Mapping[str, torch.Tensor]] = {
            "parameter": self.parameters,
            "best": self.best,
            "average": self.average.tensors,
            "optimizer": ckpt.optimizer_tensors(self.optimizer, self.parameters),
            "method": self.method.state_tensors(),
            "random": ckpt.random_tensors(self.device),
        }
        if state.phase > 0:
            # What an earlier phase trained and this one does not; begin_task cannot make it anew.
            model = self.method.model.state_dict()
            parts["model"] = {n: t for n, t in model.items() if n not in self.parameters}
        tensors = {
            f"{part}/{name}": t for part, named in parts.items() for name, t in named.items()
        }
        processes = current_processes()
        loss_sum = self.loss_sum.clone()
        processes.sum_([loss_sum])
        self._refuse_non_finite(loss_sum)  # the checkpoint that is there is better
        tensors["loss/sum"] = loss_sum
        if processes.is_main:
            self.context.checkpoint.save(tensors, asdict(state))
        processes.wait()

    @torch.no_grad()
    def _restore(self, tensors: dict[str, torch.Tensor]) -> None:
        state = self.state
        model = self.method.model.state_dict()
        for name, value in _part(tensors, "model").items():
            model[name].copy_(value)
        self._load_parameters(_part(tensors, "parameter"))
        self.best = self._on_device(_part(tensors, "best"))
        self.average.tensors = self._on_device(_part(tensors, "average"))
        self.average.count = state.num_averaged
        ckpt.load_optimizer(self.optimizer, self.parameters, _part(tensors, "optimizer"))
        ckpt.load_random(_part(tensors, "random"), self.device)
        # Of all processes together; the first goes on with it.
        self.loss_sum.copy_(tensors["loss/sum"] * float(current_processes().is_main))
        self.schedule.lr, self.schedule.patience_left = state.lr, state.patience_left
        self.schedule.best = float("inf") if state.best is None else state.best
        self.context.advance(state.num_steps_done, "resumed")

    def _on_device(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name: torch.empty_like(self.parameters[name]).copy_(t) for name, t in values.items()
        }

    @torch.no_grad()
    def _load_parameters(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self.parameters[name].copy_(value)


def _part(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    prefix = f"{name}/"
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _as_json(score: Score) -> dict[str, float]:
    return {"valid_loss": score.loss, "valid_accuracy": 100 * score.accuracy}
