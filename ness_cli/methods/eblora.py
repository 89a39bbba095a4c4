"""EBLoRA: low-rank updates whose singular values are all equal, off what earlier tasks used.

An update with one large singular value does its damage in one direction. So that of every layer is

    dW = c s B A,    B^T B = I,    A A^T = I,    A F = 0,

whose singular values are all c |s|; F spans the layer's protected directions. B and A start from
the leading singular directions of the coming task's mean gradient G, off F. They are moved on their
manifolds: the gradient becomes the Riemannian one, the optimiser's step is projected onto the
tangent space and off F, and the result is taken to the nearest matrix with orthonormal columns. s
is an ordinary parameter. After a task dW is added to W, and F grows by the leading directions of
the task's mean gradient, or inputs, until it holds a share of their energy.

The method presumes a network that is good before task 1. Here task 1 trains the whole network, and
every later head learns alone first (``train.head_epochs``): G is not that of a random head then. A
head that all tasks share has no such epochs.

Remembered: F, a growing basis per layer; B, A and s of every task, which model 1 and W follow from.

Source: Gu et al., "EBLoRA", ICML 2026 (arXiv 2602.00722). Departures from their code: gradients are
those of the model as it is, not of the one before all tasks; steps are projected with D - Y sym(Y^T
D), which leaves tangent vectors alone (theirs doubles rotations), and sized by the rows of a factor
(StelLA), where theirs grow as the rank falls; ``step=published`` brings both back. Factors have no
decay, which their projection cancels, and no dropout (theirs 0.05) before A. Decompositions are
exact and float64. No preset: their results are of a multimodal language model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import nn

from ness_cli.data.batches import Images
from ness_cli.methods.base import Method
from ness_cli.methods.files import (
    Files,
    MethodFile,
    Recomposition,
    Tensors,
    by_layer,
    with_kind,
)
from ness_cli.methods.mean_gradients import mean_gradients
from ness_cli.methods.step import TrainStep
from ness_cli.methods.task import HEAD, LayerRow, Phase, Task
from ness_cli.optim.make import ParameterGroup, divided
from ness_cli.settings.methods.eblora import Options
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.decomposition import for_each_spectrum, work_of
from ness_cli.subspace.equal_singular_values import EqualSingularValuesUpdate, add_update
from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.protected_directions import extend, room, separate
from ness_cli.subspace.spectrum import Spectrum
from ness_cli.subspace.stiefel import (
    leading_factors,
    nearest_orthonormal,
    off,
    riemannian_gradient,
    tangent,
)


def _add_updates(matrices: Tensors, before: Files, own: Files) -> Tensors:
    """Return W = W_prev + c s B A of every layer that had room."""
    update = own["update"]
    return {
        layer: add_update(matrix, {key: update[f"{layer}.{key}"] for key in "BAs"})
        if f"{layer}.s" in update
        else matrix
        for layer, matrix in matrices.items()
    }


class Eblora(Method):
    """Memory: ``memory`` (``<layer>.F``, ``[d, p]`` float32, orthonormal).

    Update of a task: ``<layer>.B`` ``[out, r]``, ``<layer>.A`` ``[r, d]`` float32, ``<layer>.s``.
    """

    options: Options
    files = (
        MethodFile(
            "memory",
            made_by="build",
            needed="newest",
            read_by=("train", "build"),
            orthonormal=("F",),
        ),
        MethodFile("update", made_by="train", needed="all", orthonormal=("B",)),
    )
    recomposition = Recomposition(before=(), own=("update",), step=_add_updates)

    def start(self) -> None:
        """Begin with nothing protected."""
        self._memory: Tensors = {}
        self._update: Tensors = {}
        self._updates: dict[str, EqualSingularValuesUpdate] = {}
        self._closed: dict[str, torch.Tensor | None] = {}

    # -- memory ------------------------------------------------------------------------------

    def load_memory(self, files: Files) -> None:
        """Take in the protected directions."""
        self._memory = by_layer(files.get("memory", {}), "F")

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of training, the update, if there was one; of building, what is protected."""
        if step == "train":
            return {"update": self._update} if self._update else {}
        return {"memory": with_kind(self._memory, "F")}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of a memory that spans everything, and of updates with room."""
        layers, rank = self.layers.values(), self.options.rank
        return {
            "memory": sum(4 * layer.dim**2 for layer in layers),
            "update": sum(4 * rank * (layer.dim + layer.out) + 8 for layer in layers),
        }

    # -- training ----------------------------------------------------------------------------

    def _is_low_rank(self, task_number: int) -> bool:
        return task_number > 1 or self.options.first_task == "low-rank"

    def trained_in(self, task_number: int) -> set[nn.Parameter]:
        """Return the parameters that train in a task; layers do through their updates."""
        trained = super().trained_in(task_number)
        if not self._is_low_rank(task_number):
            return trained
        return trained & (self.adapted() | self.model.own_parameters(task_number))

    def begin_task(self, task: Task) -> None:
        """Begin with no update."""
        super().begin_task(task)
        self._update = {}

    def phases(self, task: Task) -> list[Phase]:
        """Return the epochs of the task's own head, then those of everything."""
        head, epochs = self.train.head_epochs, self.train.epochs
        if head and self._is_low_rank(task.number) and not self.model.shared_head:
            return [Phase(HEAD, head), Phase("train", epochs - head)]
        return [Phase("train", epochs)]

    def begin_phase(self, task: Task, phase: Phase, *, is_resumed: bool = False) -> None:
        """Put updates on the layers once the head has learned."""
        super().begin_phase(task, phase, is_resumed=is_resumed)
        if phase.name == HEAD or not self._is_low_rank(task.number):
            return
        layers = self.layers
        ranks = {name: self._rank(layer) for name, layer in layers.items()}
        # Values of a resumed phase are in its checkpoint.
        gradients = {} if is_resumed else mean_gradients(self, self._sample(task.train))
        for number, (name, rank) in enumerate(ranks.items()):
            for parameter in layers[name].parameters.values():
                parameter.requires_grad_(False)
            if rank == 0:
                continue
            closed = self._memory.get(name)
            update = EqualSingularValuesUpdate(layers[name], rank, self.options.scaling)
            if not is_resumed:
                depth = number / max(1, len(layers) - 1)
                size = self.options.initial_scale + self.options.initial_scale_slope * depth
                update.start_from(*leading_factors(gradients[name], closed, rank), -size)
            self._updates[name] = update
            self._closed[name] = None if closed is None else closed.to(update.right.device)

    def _rank(self, layer: LayerView) -> int:
        """Return r of a layer: none if everything is protected."""
        closed = self._memory.get(layer.name)
        num_closed = 0 if closed is None else closed.shape[1]
        return min(self.options.rank, layer.out, layer.dim - num_closed)

    def parameter_groups(self, task: Task) -> list[ParameterGroup]:
        """Return the factors, which do not decay, their scales, and the rest."""
        factors, scales, rest = divided(
            self.trainable(),
            (y for y, _ in self._factors()),
            (update.scale for update in self._updates.values()),
        )
        return [
            ParameterGroup(factors, weight_decay=0.0),
            ParameterGroup(scales, lr_factor=self.options.scale_lr_factor),
            ParameterGroup(rest),
        ]

    def _factors(self) -> Iterator[tuple[nn.Parameter, torch.Tensor | None]]:
        """Yield every factor, with orthonormal columns, and what it must keep off."""
        for name, update in self._updates.items():
            yield update.left, None
            yield update.right, self._closed[name]

    def ascent_direction(self, parameter: nn.Parameter) -> torch.Tensor:
        """Return the Riemannian gradient of a factor, the gradient of any other."""
        gradient = super().ascent_direction(parameter)
        for y, closed in self._factors():
            if y is parameter:
                return riemannian_gradient(y.detach(), off(closed, gradient))
        return gradient

    @torch.no_grad()
    def apply(self, step: TrainStep, optimizer: torch.optim.Optimizer) -> None:
        """Feed the optimiser Riemannian gradients, and bring its step back to the manifolds."""
        before = {}
        for y, _ in self._factors():
            before[y] = y.clone()
            y.grad = self.ascent_direction(y)
        optimizer.step()
        for y, closed in self._factors():
            y.copy_(self._moved(before[y], y - before[y], closed))

    def _moved(
        self, y: torch.Tensor, change: torch.Tensor, closed: torch.Tensor | None
    ) -> torch.Tensor:
        """Return where a factor ``[n, r]`` is after a step of the optimiser."""
        width = self.options.width
        if self.options.step == "published":
            change = off(closed, math.sqrt(width / y.shape[1]) * change)
            # The Riemannian gradient's formula, of a step: it doubles the part along Y.
            change = riemannian_gradient(y, change)
        else:
            change = tangent(y, off(closed, math.sqrt(width / len(y)) * change))
        return nearest_orthonormal(off(closed, y + change))

    def end_task(self, task: Task) -> None:
        """Add the updates to the weights, as their files say."""
        for name, update in self._updates.items():
            update.detach()
            tensors = update.tensors()
            update.layer.set_matrix(add_update(update.layer.matrix(), tensors))
            self._update |= {f"{name}.{key}": value for key, value in tensors.items()}
        self._updates, self._closed = {}, {}

    # -- consolidation -----------------------------------------------------------------------

    def _sample(self, images: Images) -> Images:
        """Return some images, evenly spaced."""
        count = max(1, round(self.options.gradient_fraction * len(images)))
        return images.subset(torch.arange(count) * len(images) // count)

    def _work_per_image(self) -> int:
        return sum(layer.out * layer.dim for layer in self.layers.values())

    def consolidation_work(self, task: Task) -> int:
        """Return the multiply-adds of a pass over the sample and of decomposing its sums."""
        count = max(1, round(self.options.gradient_fraction * len(task.train)))
        dims = [layer.dim for layer in self.layers.values()]
        return count * self._work_per_image() + sum(d * d + work_of(d) for d in dims)

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Add the leading directions of this task's gradient, or inputs, to what is protected.

        Raises:
            NumericalError: If a layer's gradient or input is not finite, naming the layer.
        """
        grams, separated = self._grams(task.train, advance), {}
        for name, gram in grams.items():
            separated[name] = separate(gram, self._memory.get(name))
            advance(len(gram) ** 2)
        rule = "share of energy" if self.options.memory == "activation" else "share of gradient"

        def protect(name: str, found: Spectrum) -> LayerRow:
            gram, old, energy = grams[name], self._memory.get(name), self.options.energy
            closed = extend(gram, old, found, energy, first_rank="reach")
            self._memory[name] = closed
            rank, share = room(gram, closed)
            return LayerRow(name, len(gram), rank, energy, 100 * share, rule)

        return list(for_each_spectrum(separated, protect, advance, device=self.device).values())

    def _grams(self, images: Images, advance: Callable[[int], None]) -> Tensors:
        """Return G^T G of mean gradients, or X^T X of inputs, by layer, ``[d, d]`` float64."""
        sample, work = self._sample(images), self._work_per_image()

        def done(count: int) -> None:
            advance(count * work)

        if self.options.memory == "gradient":
            return {n: g.T @ g for n, g in mean_gradients(self, sample, done).items()}
        accumulator = CovarianceAccumulator(self.layers)
        with accumulator.accumulate():
            self.forward_images([sample], done)
        accumulator.sum_over_processes()
        return accumulator.covariances()
