"""What a method is: a set of hooks around the training of one task.

The empty subclass is plain finetuning. A method gets a model, a task and batches; it never prints,
opens files or parses arguments. The stages call the hooks in this order:

    train-task       load_memory, prepare, begin_task; per phase begin_phase, parameter_groups; per
                     step gradients (twice with SAM), edit_gradients, apply, after_step; per epoch
                     after_epoch; then end_task, outputs
    build-subspace   load_memory, consolidate, outputs
    evaluate         load_memory, task_view around every task scored

Hooks of files and checkpoints are in ``base_memory.py``: ``files`` declares what is left with every
task, ``outputs`` returns it, ``reads`` says what a later step needs of it. Those of a single step
are in ``base_step.py``, which says what ``.grad`` is in each; all others are here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ness_cli.data.batches import Images
from ness_cli.errors import SettingsError
from ness_cli.methods.base_memory import MemoryHooks
from ness_cli.methods.base_step import StepHooks
from ness_cli.methods.task import HEAD, LayerRow, Phase, Task
from ness_cli.nets.multi_head import MultiHead
from ness_cli.optim.make import ParameterGroup
from ness_cli.processes import current_processes
from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.sections import ComputeSettings, TrainSettings
from ness_cli.subspace.layer_view import LayerView, adapted_layers


class Method(MemoryHooks, StepHooks):
    """Finetuning: every task trains on from the last.

    Args:
        model: The network, with heads for all tasks up to the current one.
        options: The method's options.
        train: How a task is trained.
        compute: In which precision, and whether compiled.
        seed: The run's seed, for methods that draw random numbers of their own.
        batch_size: Images per forward pass outside training.
    """

    def __init__(
        self,
        model: MultiHead,
        options: MethodOptions,
        train: TrainSettings,
        *,
        seed: int,
        compute: ComputeSettings | None = None,
        batch_size: int = 500,
    ) -> None:
        self.model = model
        self.options = options
        self.train = train
        self.compute = compute or ComputeSettings()
        self.seed = seed
        self.batch_size = batch_size
        self._resting: list[nn.Parameter] = []
        self.start()

    def start(self) -> None:
        """Create the method's own state, with nothing remembered."""

    @property
    def name(self) -> str:
        """Its name in settings: that of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def layers(self) -> dict[str, LayerView]:
        """The layers that tasks after the first train in, and a shared head, by name."""
        model = self.model
        return adapted_layers(
            model.backbone,
            model.head(1) if model.shared_head else None,
            patterns=model.adapt,
            augment_bias=model.augments_bias,
        )

    def adapted(self) -> set[nn.Parameter]:
        """Return the parameters of the matrices of ``layers``."""
        return {p for layer in self.layers.values() for p in layer.parameters.values()}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    # -- before training ---------------------------------------------------------------------

    def check_options(self) -> None:
        """Refuse options that do not fit the network, before anything is trained.

        Raises:
            SettingsError: If an option names layers that there are none of.
        """
        _ = self.layers  # refuses patterns that match no layer

    def refuse_compilation(self, why: str) -> None:
        """Refuse a network that is to be compiled.

        Raises:
            SettingsError: If it is, with what of the method does not go with it.
        """
        if self.compute.compile == "on":
            raise SettingsError(f"compute.compile: {why}", "set compute.compile=off")

    def preparation_work(self, task: Task) -> int:
        """Return how much ``prepare`` will do, in its own units; 0 if next to nothing."""
        return 0

    def prepare(self, task: Task, advance: Callable[[int], None]) -> None:
        """Work out, before ``begin_task``, what the training of a task needs and takes long.

        Args:
            task: The task.
            advance: As of ``consolidate``.
        """

    def begin_task(self, task: Task) -> None:
        """Decide what trains; attach what training needs."""
        self.model.train_only(self.trained_in(task.number))

    def trained_in(self, task_number: int) -> set[nn.Parameter]:
        """Return the parameters of the model that train in task ``task_number``.

        Heads and per-task normalisation of other tasks do not; shared scale and shift are learned
        in the first task only.
        """
        model = self.model
        resting = model.own_parameters() - model.own_parameters(task_number)
        if task_number > 1:
            resting |= model.shared_affine()
        return set(model.parameters()) - resting

    def shared(self) -> dict[str, nn.Parameter]:
        """Return the parameters that tasks after the first train and have in common, by name."""
        of_all = self.trained_in(2) - self.model.own_parameters()
        return {name: p for name, p in self.model.named_parameters() if p in of_all}

    def frozen(self) -> dict[str, int]:
        """Return the parameters of the backbone that no task after the first trains, by size."""
        others = self.trained_in(2) | self.model.own_parameters()
        return {
            name: parameter.numel()
            for name, parameter in self.model.backbone.named_parameters()
            if parameter not in others
        }

    def phases(self, task: Task) -> list[Phase]:
        """Return the phases of a task's training."""
        head, epochs = self.train.head_epochs, self.train.epochs
        if head and not task.is_first:
            return [Phase(HEAD, head), Phase("train", epochs - head)]
        return [Phase("train", epochs)]

    def begin_phase(self, task: Task, phase: Phase, *, is_resumed: bool = False) -> None:
        """Set up a phase, before ``parameter_groups`` is asked for.

        Args:
            task: The task.
            phase: The phase.
            is_resumed: Whether it had begun before, in another process. A resumed task calls this
                for the phase it stopped in only, after ``load_state_tensors``; what a later phase
                needs of an earlier one belongs into ``state_tensors``.
        """
        for parameter in self._resting:
            parameter.requires_grad_(True)
        self._resting = []
        if phase.name == HEAD:
            everything = self.trainable().items()
            self._resting = [p for name, p in everything if not name.startswith("heads.")]
            for parameter in self._resting:
                parameter.requires_grad_(False)

    def training_sets(self, task: Task) -> list[Images]:
        """Return the sets of images that are trained on; batches never mix two sets."""
        return [task.train]

    def statistics_sets(self, task: Task) -> list[Images]:
        """Return the images whose statistics their tasks are normalised by from now on."""
        return self.training_sets(task)

    def validation_sets(self, task: Task) -> list[Images]:
        """Return the validation images of all tasks that are trained on."""
        return [] if task.valid is None else [task.valid]

    def parameter_groups(self, task: Task) -> list[ParameterGroup]:
        """Return what the optimiser steps."""
        return [ParameterGroup(self.trainable())]

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that require a gradient, by name."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def after_epoch(self, task: Task) -> None:
        """Constrain what was learned; validation and the choice of weights come after it."""

    def on_lr_drop(self, factor: float) -> None:
        """Learn that the learning rate was divided by ``factor``."""

    # -- after training ----------------------------------------------------------------------

    def end_task(self, task: Task) -> None:
        """Merge and detach, so that the model has plain names again."""

    def measured(self) -> dict[str, Any]:
        """Return what the training of this task measured, plain values for its record."""
        return {}

    def consolidation_work(self, task: Task) -> int:
        """Return how much ``consolidate`` will do, in its own units, for a progress bar."""
        return 0

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Prepare what the next task needs to know.

        Args:
            task: The task just learned.
            advance: Called with the work done since the last call, several times a second at best,
                with 0 where none is complete: an exception that it raises stops the work.

        Returns:
            A row per layer, empty for a method that keeps nothing.
        """
        return []

    # -- using the model ---------------------------------------------------------------------

    def input_maps(self, task_number: int) -> Mapping[str, torch.Tensor]:
        """Return what a task makes of the inputs of layers before their matrices multiply them.

        B by layer, ``[d, d]`` float64, for W (B x); a layer without an entry computes W x. What is
        remembered of the task's inputs, and said of changes of its outputs, is of B x.
        """
        return {}

    @contextmanager
    def task_view(self, task_number: int) -> Iterator[MultiHead]:
        """Give the model as that task knows it: its head, its normalisation, evaluation mode.

        What was selected before is selected again afterwards.
        """
        before, was_training = self.model.task, self.model.training
        self.model.select(task_number)
        self.model.eval()
        try:
            yield self.model
        finally:
            self.model.train(was_training)
            self.model.select(before)

    def batch_slices(self, images: Images) -> list[slice]:
        """Return the batches in which ``forward_images`` passes images through."""
        return images.batch_slices(self.batch_size, self.model.smallest_batch(self.batch_size))

    @torch.no_grad()
    def forward_images(self, sets: Sequence[Images], advance: Callable[[int], None]) -> None:
        """Pass images through the network, each set in its own task's view, for hooks on layers.

        Several processes divide the batches among them; what they see must be summed.
        """
        processes = current_processes()
        for images in sets:
            with self.task_view(images.task) as model:
                for index, where in enumerate(self.batch_slices(images)):
                    if index % processes.size == processes.rank:
                        model(images.batch(where).x)
                    advance(where.stop - where.start)
