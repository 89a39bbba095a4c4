"""Training inside a subspace of every layer's inputs, shared by NESS and the GPM family.

From the second task on, every adapted weight W moves as

    M <- mu M + G P + lambda (W - W_prev),    W <- W - lr M,

with G the gradient, P the projector onto the layer's open directions and decay pulling toward the
weights of the previous task: decay toward zero would move the protected directions. Without
momentum and decay this is the plain projected step of GPM.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import nn

from ness_cli import seeding
from ness_cli.data.batches import Images
from ness_cli.errors import SettingsError
from ness_cli.methods.base import Method
from ness_cli.methods.files import Tensors
from ness_cli.methods.step import TrainStep
from ness_cli.methods.task import Task
from ness_cli.optim.make import ParameterGroup, divided
from ness_cli.subspace.covariance import CovarianceAccumulator, PassProgress, work_of_rows
from ness_cli.subspace.decomposition import work_of
from ness_cli.subspace.layer_inputs import observed_inputs
from ness_cli.subspace.layer_view import LayerView, split
from ness_cli.subspace.projected_linear import ProjectedLinear, is_linear
from ness_cli.subspace.projection import Projector, project_all_
from ness_cli.words import counted


class ProjectedMethod(Method, ABC):
    """A method that confines each layer's step to a subspace of its input space.

    Attributes:
        projects_rows: Whether gradients of Linear layers may come out of the backward pass
            projected. A method that needs them raw, or that puts effective weights on layers while
            they train, declines; they are projected as such then.
    """

    projects_rows: ClassVar[bool] = True

    _projectors: dict[str, Projector]
    _anchors: dict[str, torch.Tensor]
    _views: dict[str, LayerView]
    _linears: dict[str, ProjectedLinear]
    _owners: dict[int, tuple[str, str]]  # by parameter: its layer and its part of the matrix

    @abstractmethod
    def projectors(self, task: Task) -> dict[str, Projector]:
        """Return the projector of every confined layer, on the model's device.

        Asked once per task, the first one included: a method that leaves it free returns none.
        """

    def begin_task(self, task: Task) -> None:
        """Build the projectors and freeze what has no open direction."""
        self._views = self.layers
        self._projectors = self.projectors(task)
        self._anchors = {name: self._views[name].matrix().clone() for name in self._projectors}
        self._owners = {
            id(parameter): (name, part)
            for name in self._projectors
            for part, parameter in self._views[name].parameters.items()
        }
        self._linears = {}
        super().begin_task(task)
        for name, projector in self._projectors.items():
            layer = self._views[name]
            for parameter in layer.parameters.values():
                parameter.requires_grad_(projector.rank > 0)
            # SAM needs the norm of G and of G P; where P is no projection, one does not tell both.
            by_rows = projector.is_idempotent or self.train.sam.tasks == "none"
            is_partial = projector.rank > 0 and not projector.is_identity
            if self.projects_rows and is_linear(layer) and is_partial and by_rows:
                self._linears[name] = ProjectedLinear(layer, projector, self.train.batch_size)

    def end_task(self, task: Task) -> None:
        """Give the layers their own forward pass back; the model was plain all along."""
        for linear in self._linears.values():
            linear.detach()
        self._projectors, self._anchors, self._linears, self._owners = {}, {}, {}, {}

    def _project_rows(self, *, is_on: bool) -> None:
        """Let gradients of Linear layers come out of the backward pass projected, or whole."""
        for linear in self._linears.values():
            linear.is_on = is_on

    def _is_projected(self, name: str) -> bool:
        """Return whether a layer's gradient comes out of the backward pass projected."""
        return name in self._linears and self._linears[name].by_rows is True

    @torch.no_grad()
    def work_per_image(self, images: Images) -> int:
        """Return the work of an image in a pass that adds up inputs, from a look at two."""
        layers = self.layers
        found: dict[str, int] = {}

        def see(name: str, x: torch.Tensor) -> None:
            layer = layers[name]
            found[name] = work_of_rows(layer, layer.rows_per_image(x))

        with observed_inputs(layers, see), self.task_view(images.task) as model:
            model(images.batch(slice(0, 2)).x)
        return sum(found.values())

    def sample_of(self, task: Task, num_images: int | None, purpose: str) -> torch.Tensor:
        """Return positions of some of a task's training images, drawn for a purpose, int64."""
        generator = seeding.generator(self.seed, purpose, task.number)
        return torch.randperm(len(task.train), generator=generator)[:num_images]

    @torch.no_grad()
    def grams_of(
        self,
        task: Task,
        sample: torch.Tensor,
        advance: Callable[[int], None],
        *,
        max_images: Mapping[str, int] | None = None,
    ) -> Tensors:
        """Return X^T X of some of a task's images as its model is now, ``[d, d]`` float64 by layer.

        X are the inputs that the layers' matrices multiply. Every process passes the whole sample.

        Args:
            task: The task.
            sample: Positions of its training images, int64.
            advance: Called with the work done, ``work_per_image`` for every image.
            max_images: Of the sample only this many images are added, by layer; all when absent.
        """
        progress = PassProgress(advance, self.work_per_image(task.train))
        accumulator = CovarianceAccumulator(self.layers, max_images, progress.chunk)
        # One forward pass for the whole sample: with batch statistics it normalises by itself.
        with accumulator.accumulate(), self.task_view(task.number) as model:
            model(task.train.batch(sample).x)
        progress.images(len(sample))
        return accumulator.covariances(maps=self.input_maps(task.number))

    def work_of_sample(self, images: Images, samples: int) -> int:
        """Return the multiply-adds of summing up a sample and of decomposing the sums."""
        decompositions = sum(work_of(layer.dim) for layer in self.layers.values())
        return min(samples, len(images)) * self.work_per_image(images) + decompositions

    def trained_in(self, task_number: int) -> set[nn.Parameter]:
        """Return the parameters that train in task ``task_number``.

        After the first task only adapted layers, the task's own head and its own normalisation do.
        """
        trained = super().trained_in(task_number)
        if task_number == 1:
            return trained
        return trained & (self.adapted() | self.model.own_parameters(task_number))

    def parameter_groups(self, task: Task) -> list[ParameterGroup]:
        """Return the confined weights and the rest.

        Decay is the optimiser's, toward zero; ``decay`` moves its goal to W_prev.
        """
        confined = [p for name in self._projectors for p in self._views[name].parameters.values()]
        return [ParameterGroup(own) for own in divided(self.trainable(), confined)]

    def ascent_direction(self, parameter: nn.Parameter) -> torch.Tensor:
        """Return the projected gradient of a confined weight, the gradient of any other."""
        if id(parameter) not in self._owners:
            return super().ascent_direction(parameter)
        name, part = self._owners[id(parameter)]
        layer, projector = self._views[name], self._projectors[name]
        gradient = layer.gradient()
        projected = gradient if self._is_projected(name) else projector(gradient)
        return split(projected, layer.parameters)[part]

    @torch.no_grad()
    def edit_gradients(self, step: TrainStep) -> None:
        """Replace G by G P in every confined layer."""
        gradients = self._confined_gradients()
        project_all_(
            (self._projectors[name], gradient)
            for name, gradient in gradients.items()
            if not self._is_projected(name)
        )
        for name, gradient in gradients.items():
            self._views[name].set_gradient(gradient)

    def apply(self, step: TrainStep, optimizer: torch.optim.Optimizer) -> None:
        """Make the step, with decay toward W_prev."""
        self.decay()
        super().apply(step, optimizer)

    @torch.no_grad()
    def decay(self) -> None:
        """Take lambda W_prev off the gradients of confined layers; the optimiser adds lambda W.

        After norms are clipped: of a gradient scaled down with it a part of W_prev would be left,
        which lies in no subspace.
        """
        if not self.train.weight_decay:
            return
        gradients = self._confined_gradients()
        if gradients:
            anchors = [self._anchors[name] for name in gradients]
            torch._foreach_add_([*gradients.values()], anchors, alpha=-self.train.weight_decay)
        for name, gradient in gradients.items():
            self._views[name].set_gradient(gradient)

    def _confined_gradients(self) -> Tensors:
        """Return the gradients ``[out, d]`` of the confined layers that have one."""
        views = {name: self._views[name] for name in self._projectors}
        return {name: v.gradient() for name, v in views.items() if v.weight.grad is not None}

    def _per_layer(
        self, value: float | tuple[float, ...] | tuple[int, ...], option: str, num_layers: int
    ) -> tuple[float, ...]:
        """Return a value for every layer of an option that has one for all, or a list.

        Raises:
            SettingsError: If the list is of another length.
        """
        values = value if isinstance(value, tuple) else (value,) * num_layers
        if len(values) != num_layers:
            raise SettingsError(
                f"methods.{self.name}.{option}: {counted(len(values), 'value')} for "
                f"{counted(num_layers, 'layer')}",
                f"give one value, or one for each of {', '.join(self.layers)}",
            )
        return values
