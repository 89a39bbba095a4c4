"""TRGP: GPM, with the subspaces of the most related old tasks rescaled for the new one.

GPM forbids a new task whatever old inputs use. TRGP lets it change how it *reads* that part: where
enough of the first gradient G of the new task lies in the subspace B_j of an old task j,

    ||G B_j||_F > relevance ||G||_F,

the layer computes, for the new task only, with

    W + sum over the most related j of (W B_j) (Q_j - I) B_j^T,

and learns the square matrices Q_j beside W, from I on. W itself moves orthogonally to all protected
directions M, as with GPM, so W B_j is a constant of the task and no old task notices.

After a task its inputs are held against M and what they add: of all these directions the fewest
that carry a share theta of the energy are the task's own subspace B, and the new ones join M.

Remembered: M, which columns of it make up each B_j, and for every task D_j = Q_j - I of the layers
and old tasks that it scales. A task is evaluated with its own; the task must be known.

Source: Lin, Yang, Fan, Zhang, "TRGP: Trust Region Gradient Projection for Continual Learning",
ICLR 2022. Departures from their code: the first new direction of every task joins M (theirs, by a
strict comparison, never protects it); M is taken from the inputs that the scaled network produces,
which is the one that solves the task (theirs: from the plain one); every layer scales or not by
itself (theirs: none does unless the first convolution does); the third task may choose from both
earlier ones in every network; shared scales and shifts rest after task 1 in every network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch

from ness_cli.methods.files import Files, MethodFile, Tensors, by_layer, with_kind
from ness_cli.methods.gpm import Gpm
from ness_cli.methods.step import cross_entropy
from ness_cli.methods.task import LayerRow, Task
from ness_cli.nets.multi_head import MultiHead
from ness_cli.optim.make import ParameterGroup, divided
from ness_cli.processes import current_processes
from ness_cli.settings.methods.trgp import Options
from ness_cli.subspace.layer_view import LayerView, join, refuse_unmatched
from ness_cli.subspace.protected_directions import grow, strongest
from ness_cli.subspace.scaled import ScaledLayer, scaled_matrix
from ness_cli.subspace.spectrum import Spectrum


class Trgp(Gpm):
    """Memory: ``memory`` as GPM's; per task ``directions`` and ``scaling``.

    ``directions`` has ``<layer>.columns``, int64 ``[r]``: which columns of M the task uses.
    ``scaling`` has ``<layer>.D.<old task>``, ``[r, r]`` float32, of those that the task scales.
    """

    options: Options
    files = (
        *Gpm.files,
        MethodFile("directions", made_by="build", needed="all"),
        MethodFile("scaling", made_by="train", needed="all", of_task=True),
    )

    def start(self) -> None:
        """Begin with nothing protected and nothing scaled."""
        super().start()
        self._columns: dict[int, Tensors] = {}
        self._factors: dict[int, dict[str, dict[int, torch.Tensor]]] = {}
        self._attached: dict[str, ScaledLayer] = {}
        self._related: dict[str, list[int]] = {}

    def check_options(self) -> None:
        """Refuse patterns of layers that there are none of.

        Raises:
            SettingsError: Naming the pattern.
        """
        super().check_options()
        refuse_unmatched("methods.trgp.scaled_layers", self.options.scaled_layers, self.layers)

    # -- memory ------------------------------------------------------------------------------

    def reads(self, step: str) -> tuple[str, ...]:
        """Return ``memory``, whose columns make up the subspaces of all tasks."""
        return ("memory",)

    def reads_of_every_task(self, step: str) -> tuple[str, ...]:
        """Return the subspaces of all tasks, and what they scale unless a new one is trained."""
        return ("directions",) if step == "train" else ("directions", "scaling")

    def load_task_memory(self, task_number: int, files: Files) -> None:
        """Take in the subspace of a task, and what it scales."""
        if "directions" in files:
            self._columns[task_number] = by_layer(files["directions"], "columns")
        factors = self._factors.setdefault(task_number, {})
        for key, value in files.get("scaling", {}).items():
            layer, _, source = key.rsplit(".", 2)
            factors.setdefault(layer, {})[int(source)] = value

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of training, what the task scales; of building, M and the task's part of it."""
        if step == "train":
            own = self._factors[max(self._factors)].items()
            return {"scaling": {f"{n}.D.{j}": d for n, of in own for j, d in of.items()}}
        newest = self._columns[max(self._columns)]
        return {**super().outputs(step), "directions": with_kind(newest, "columns")}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of a memory and of subspaces that span everything."""
        dims = [layer.dim for layer in self.layers.values()]
        return {
            **super().file_sizes(),
            "directions": sum(8 * d for d in dims),
            "scaling": sum(4 * self.options.most_related * d**2 for d in dims),
        }

    def _basis(self, task_number: int, layer: str, device: torch.device) -> torch.Tensor:
        """Return B of a task, ``[d, r]`` float32."""
        return self._memory[layer][:, self._columns[task_number][layer]].to(device)

    # -- training ----------------------------------------------------------------------------

    def begin_task(self, task: Task) -> None:
        """Choose what is scaled by the first gradient, and put it on."""
        self._related = {} if task.is_first else self._most_related(task)
        super().begin_task(task)
        for name, sources in self._related.items():
            view = self._views[name]
            bases = [self._basis(task_number, name, view.weight.device) for task_number in sources]
            self._attached[name] = ScaledLayer(view, bases)

    def _most_related(self, task: Task) -> dict[str, list[int]]:
        """Return the old tasks that each layer scales, layers that scale none left out."""
        options, views = self.options, self.layers
        chosen = {n: v for n, v in views.items() if _matches(n, options.scaled_layers)}
        found = {}
        for name, gradient in self._first_gradients(task, chosen).items():
            bases = {
                task_number: self._basis(task_number, name, gradient.device)
                for task_number in self._columns
            }
            found[name] = most_related(gradient, bases, options.relevance)[: options.most_related]
        return {name: sources for name, sources in found.items() if sources}

    def _first_gradients(self, task: Task, views: Mapping[str, LayerView]) -> Tensors:
        """Return the gradients of the loss where training starts, ``[out, d]`` by layer."""
        batch = task.train.batch(
            self.sample_of(task, self.options.gradient_samples, "trgp-gradient")
        )
        parameters = [p for view in views.values() for p in view.parameters.values()]
        for parameter in parameters:
            parameter.requires_grad_(True)  # begin_task decides which of them train
        with self.task_view(task.number) as model:
            loss = cross_entropy(model(batch.x), batch, self.train.label_smoothing)
            gradients = list(torch.autograd.grad(loss, parameters))
        # Every process has taken all of them; the sum makes their choices the same.
        current_processes().sum_(gradients)
        rest = iter(gradients)
        return {name: join({p: next(rest) for p in v.parameters}) for name, v in views.items()}

    def parameter_groups(self, task: Task) -> list[ParameterGroup]:
        """Return the confined weights, the rest, and the scalings at a rate of their own."""
        confined, rest = super().parameter_groups(task)
        scalings = [p for layer in self._attached.values() for p in layer.scaling.parameters()]
        own, others = divided(rest.parameters, scalings)
        factor = self.options.scaling_lr
        return [confined, ParameterGroup(others), ParameterGroup(own, lr_factor=factor)]

    def end_task(self, task: Task) -> None:
        """Keep what was scaled, and take it off."""
        self._factors[task.number] = {}
        for name, layer in self._attached.items():
            layer.detach()
            factors = zip(self._related[name], layer.factors(), strict=True)
            self._factors[task.number][name] = dict(factors)
        self._attached = {}
        super().end_task(task)

    @contextmanager
    def task_view(self, task_number: int) -> Iterator[MultiHead]:
        """Give the model as task ``task_number`` knows it, with what it scales.

        While a task is being trained its scaling is on the layers, and it is the only one to see.
        """
        views = self.layers
        own = {} if self._attached else self._factors.get(task_number, {})
        plain = {name: views[name].matrix().clone() for name in own}
        with super().task_view(task_number) as model:
            try:
                for name, factors in own.items():
                    w = plain[name]
                    bases = [self._basis(source, name, w.device) for source in factors]
                    moved = [factor.to(w.device) for factor in factors.values()]
                    views[name].set_matrix(scaled_matrix(w, bases, moved))
                yield model
            finally:
                for name, matrix in plain.items():
                    views[name].set_matrix(matrix)

    # -- consolidation -----------------------------------------------------------------------

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Find the subspace of this task, and add what is new of it to the memory."""
        self._columns[task.number] = {}
        return super().consolidate(task, advance)

    def protect(self, layer: str, gram: torch.Tensor, found: Spectrum, theta: float) -> None:
        """Add the new directions among those that carry a share theta, and note them all."""
        old = self._memory.get(layer)
        if old is None:
            super().protect(layer, gram, found, theta)
            columns = torch.arange(self._memory[layer].shape[1])
        else:
            columns, new = strongest(gram, old, found, theta)
            self._remember(layer, grow(old, found, new), found)
        self._columns[max(self._columns)][layer] = columns


def _matches(layer: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(layer, pattern) for pattern in patterns)


def most_related(
    gradient: torch.Tensor, bases: Mapping[int, torch.Tensor], relevance: float
) -> list[int]:
    """Return the old tasks that a gradient is related to, the most related first.

    Args:
        gradient: G, ``[out, d]``.
        bases: B_j, orthonormal columns, ``[d, r_j]``, by task.
        relevance: Least share of ||G||_F that ||G B_j||_F has, a fraction.
    """
    strengths = {
        task_number: float((gradient @ basis).norm()) for task_number, basis in bases.items()
    }
    least = relevance * float(gradient.norm())
    related = [task_number for task_number, strength in strengths.items() if strength > least]
    return sorted(related, key=lambda task_number: -strengths[task_number])
