"""Methods whose tasks may mix, each for itself, what earlier tasks do not let them change.

From the second task on a layer may have directions Q, chosen from inputs before training, and a
matrix M that is trained along: see ``subspace/mixing.py``. The model that is stored holds W; the
file ``mixing`` of a task holds what only that task computes with, so the task must be known.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch

from ness_cli.methods.base_projected import ProjectedMethod
from ness_cli.methods.files import Files, MethodFile, Tensors, by_layer, with_kind
from ness_cli.methods.task import Task
from ness_cli.nets.multi_head import MultiHead
from ness_cli.optim.make import ParameterGroup
from ness_cli.processes import current_processes
from ness_cli.subspace import mixing
from ness_cli.subspace.mixing import MixedInput, MixedWeight, Mixing

MIXING = MethodFile("mixing", made_by="train", needed="all", of_task=True, orthonormal=("Q",))


class MixingMethod(ProjectedMethod):
    """Of a task: ``mixing`` (``<layer>.Q``, ``[d, K]``, ``<layer>.M``, ``[K, K]``, float32).

    ``begin_task`` calls ``begin_mixing`` last, when nothing else will parametrise layers, with what
    ``chosen_directions`` gave before anything did; ``end_task`` calls ``end_mixing``.
    """

    files: ClassVar[tuple[MethodFile, ...]] = (MIXING,)

    def start(self) -> None:
        """Begin with nothing mixed."""
        super().start()
        self._mixings: dict[int, dict[str, Mixing]] = {}
        self._mixed: dict[str, MixedWeight | MixedInput] = {}
        self._own: dict[str, Mixing] = {}
        self._rates: dict[str, float] = {}
        self._chosen: tuple[int, Tensors] | None = None  # for which task, by prepare

    @property
    @abstractmethod
    def num_mixed(self) -> int:
        """K, the most directions that a task mixes in a layer; 0 if no task mixes any."""

    @property
    def mixes(self) -> bool:
        """Whether tasks mix."""
        return self.num_mixed > 0

    @abstractmethod
    def directions_to_mix(self, task: Task, advance: Callable[[int], None]) -> Tensors:
        """Return Q, ``[d, K]`` float32, of every layer that a task is to mix in.

        Asked before anything is attached; for the first task there is nothing to mix.
        ``advance`` is as of ``consolidate``.
        """

    @abstractmethod
    def work_of_choosing(self, task: Task) -> int:
        """Return how much ``directions_to_mix`` will do, in its own units."""

    def preparation_work(self, task: Task) -> int:
        """Return the work of choosing what to mix."""
        return 0 if task.is_first or not self.mixes else self.work_of_choosing(task)

    def prepare(self, task: Task, advance: Callable[[int], None]) -> None:
        """Choose what a task mixes."""
        mixes = self.mixes and not task.is_first
        found = self.directions_to_mix(task, advance) if mixes else {}
        self._chosen = task.number, self._of_main_process(found)

    def chosen_directions(self, task: Task) -> Tensors:
        """Return what ``prepare`` has chosen for a task, or choose now."""
        if self._chosen is None or self._chosen[0] != task.number:
            self.prepare(task, lambda _: None)
        assert self._chosen is not None
        (_, found), self._chosen = self._chosen, None
        return found

    def _of_main_process(self, directions: Tensors) -> Tensors:
        """Return the directions that the first process has chosen: gradients of M are summed."""
        processes = current_processes()
        if processes.size == 1:
            return directions
        found: Tensors = {}
        none = torch.empty(0, 0)
        counts = [directions.get(name, none).shape[1] for name in self.layers]
        for name, count in zip(self.layers, processes.of_main(*counts), strict=True):
            width = self.layers[name].dim - self.layers[name].has_bias_column
            q = torch.zeros(width, int(count), device=self.device)
            if processes.is_main and count:
                q.copy_(directions[name])
            processes.sum_([q])
            found[name] = q.cpu()
        return {name: q for name, q in found.items() if q.shape[1]}

    def first_matrix(self, layer: str, size: int, task: Task) -> torch.Tensor:
        """Return the M that training starts from, ``[size, size]``."""
        return torch.eye(size)

    def rate_of(self, layer: str, directions: torch.Tensor) -> float:
        """Return the factor on the learning rate of a layer's M, with directions Q ``[d, K]``."""
        return 1.0

    def detaches(self, layer: str) -> bool:
        """Return whether what mixing subtracts stays out of the gradient of a layer's weight."""
        return False

    @torch.no_grad()
    def covariances_of_sample(
        self, task: Task, num_images: int, purpose: str, advance: Callable[[int], None]
    ) -> Tensors:
        """Return X^T X of some of a task's images as the model is now, ``[d, d]`` by layer.

        Without the constant of a bias. Every process passes the whole sample. ``advance`` is called
        with ``work_per_image`` for every image.
        """
        found = self.grams_of(task, self.sample_of(task, num_images, purpose), advance)
        return {name: self.without_constant(name, c) for name, c in found.items()}

    def without_constant(self, layer: str, c: torch.Tensor) -> torch.Tensor:
        """Return a covariance ``[d, d]`` without the constant that a bias is multiplied with."""
        width = len(c) - self.layers[layer].has_bias_column
        return c[:width, :width]

    # -- files -------------------------------------------------------------------------------

    def reads_of_training(self) -> tuple[str, ...]:
        """Return, for building, what the task itself mixes."""
        return (*super().reads_of_training(), *(("mixing",) if self.mixes else ()))

    def reads_of_every_task(self, step: str) -> tuple[str, ...]:
        """Return, for evaluating, what every task mixes."""
        also = ("mixing",) if self.mixes and step == "evaluate" else ()
        return (*super().reads_of_every_task(step), *also)

    def load_task_memory(self, task_number: int, files: Files) -> None:
        """Take in what a task mixes."""
        super().load_task_memory(task_number, files)
        own = files.get("mixing", {})
        matrices = by_layer(own, "M")
        self._mixings[task_number] = {
            name: Mixing(q, matrices[name]) for name, q in by_layer(own, "Q").items()
        }

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return the files of a step: of training what the task mixes, nothing in task 1."""
        found = super().outputs(step)
        if step != "train" or not self.mixes:
            return found
        directions = {name: own.directions for name, own in self._own.items()}
        matrices = {name: own.matrix for name, own in self._own.items()}
        return {**found, "mixing": with_kind(directions, "Q") | with_kind(matrices, "M")}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of mixing in every layer; 0 if no task mixes."""
        sizes = [(x.dim, min(x.dim, self.num_mixed)) for x in self.layers.values()]
        return {**super().file_sizes(), "mixing": sum(4 * k * (d + k) for d, k in sizes)}

    # -- training ----------------------------------------------------------------------------

    def begin_mixing(self, task: Task, directions: Tensors) -> None:
        """Put the mixing of a task onto its layers."""
        self._own = {}
        self._rates = {name: self.rate_of(name, q) for name, q in directions.items()}
        self._mixings.pop(task.number, None)
        self._mixed = {
            name: mixing.attach(
                self._views[name],
                q,
                self.first_matrix(name, q.shape[1], task),
                detaches=self.detaches(name),
            )
            for name, q in directions.items()
            if q.shape[1]
        }

    def end_mixing(self, task: Task) -> None:
        """Take the mixing off and keep it."""
        for name, own in self._mixed.items():
            q, m = (t.detach().cpu().clone() for t in (own.directions, own.matrix))
            self._own[name] = Mixing(q, m)
            mixing.detach(self._views[name])
        self._mixed = {}
        self._mixings[task.number] = self._own

    def parameter_groups(self, task: Task) -> list[ParameterGroup]:
        """Return the groups of the method, and M: decay, which is toward zero, is not for it."""
        groups = super().parameter_groups(task)
        layers = {id(own.matrix): name for name, own in self._mixed.items()}
        own = {n: layers[id(p)] for n, p in self.trainable().items() if id(p) in layers}
        if not own:
            return groups
        rest = [
            replace(g, parameters={n: p for n, p in g.parameters.items() if n not in own})
            for g in groups
        ]
        matrices = [
            ParameterGroup({name: self._mixed[layer].matrix}, 0.0, self._rates.get(layer, 1.0))
            for name, layer in own.items()
        ]
        return [*rest, *matrices]

    def measured(self) -> dict[str, Any]:
        """Return how many directions the task mixes, by layer."""
        found = {name: own.directions.shape[1] for name, own in self._own.items()}
        return super().measured() | ({"mixed_directions": found} if self.mixes else {})

    # -- using the model ---------------------------------------------------------------------

    def input_maps(self, task_number: int) -> Mapping[str, torch.Tensor]:
        """Return B of every layer that a task mixes in."""
        own, layers = self._mixings.get(task_number, {}), self.layers
        return {name: mixed.input_map(layers[name].dim) for name, mixed in own.items()}

    @contextmanager
    def task_view(self, task_number: int) -> Iterator[MultiHead]:
        """Give the model as task ``task_number`` knows it, with effective weights in its layers."""
        own = self._mixings.get(task_number, {})
        layers = self.layers if own else {}
        with super().task_view(task_number) as model, mixing.mixing(layers, own):
            yield model
