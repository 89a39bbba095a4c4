"""HALRP: every later task has the first one's weights, rescaled, with a low rank added.

Task 1 trains as usual, and its weights W_1 are the base of all others. Task t has, per layer,

    W_t = diag(R) W_1 diag(S) + P Q,

biases, scales and shifts of its own, and no task changes what another one has. It learns in two
phases: in the probe a copy of W_1 trains freely, to W; R and S are fitted to it in closed form,
and what is left, D = U diag(sigma) V^T, gives P and Q their start. Direction i of a layer costs

    positions in the kernel * sigma_i^2 * h,    h the mean square of the gradient of the loss

if it is left out, to second order; of all layers together the most expensive that make up a share
of the cost are kept, which gives each layer its rank. Then R, S, P and Q train with the loss

    cross-entropy + lambda_1 sum (|P| + |Q|) + lambda_0 / 2 sum (R^2 + S^2 + P^2 + Q^2).

Once later tasks together would add more than a budget to the size of task 1's network, the smallest
entries of P and Q of every task are pruned, the same fraction of each. This alone forgets.

Remembered: per task R, S, P, Q and biases of every layer, P and Q as they were before pruning: what
a task keeps of them depends on how many follow. A task must be known.

Source: Li, Zhou, Qu, Chen, Zhu, Wang, "Hessian Aware Low-Rank Perturbation for Order-Robust
Continual Learning", IEEE TKDE 36(11), 2024. Departures from their code: biases and statistics of
normalisation count as what a task adds; epochs are shuffled; statistics belong to tasks, and are
those of the pruned weights; gradients, for Adam, are not multiplied by ten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from ness_cli.methods.base import Method
from ness_cli.methods.files import Files, MethodFile, Tensors
from ness_cli.methods.fisher import squared_gradients
from ness_cli.methods.step import StepProgress
from ness_cli.methods.task import Phase, Task
from ness_cli.nets.multi_head import MultiHead
from ness_cli.settings.methods.halrp import Options
from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.low_rank_perturbation import (
    FACTORS,
    LowRankPerturbation,
    Rescaled,
    empty_pieces,
    perturbed_weight,
    pruned,
    ranks_of,
    rescaled,
)

PROBE = "probe"


class Halrp(Method):
    """Memory: ``pieces`` (``<layer>.R``, ``.S``, ``.P``, ``.Q``, ``.bias``) and ``pruning``."""

    options: Options
    files = (
        MethodFile("pieces", made_by="train", needed="all", of_task=True),
        MethodFile("pruning", made_by="train", needed="all"),
    )

    def start(self) -> None:
        """Begin with nothing but the network."""
        self._pieces: dict[int, dict[str, Tensors]] = {}
        self._pruned_fraction: float | None = None
        self._base: dict[nn.Parameter, torch.Tensor] = {}
        self._perturbations: dict[str, LowRankPerturbation] = {}
        self._ranks: dict[str, int] = {}

    # -- memory ------------------------------------------------------------------------------

    def reads(self, step: str) -> tuple[str, ...]:
        """Return, for evaluation, how much is pruned."""
        return ("pruning",) if step == "evaluate" and self.options.budget is not None else ()

    def load_memory(self, files: Files) -> None:
        """Take in how much is pruned."""
        fraction = files.get("pruning", {}).get("fraction")
        self._pruned_fraction = None if fraction is None else float(fraction)

    def reads_of_every_task(self, step: str) -> tuple[str, ...]:
        """Return the pieces of all tasks, except for building, which makes nothing."""
        return () if step == "build" else ("pieces",)

    def load_task_memory(self, task_number: int, files: Files) -> None:
        """Take in the pieces of a task."""
        self._pieces[task_number] = {}
        for key, value in files.get("pieces", {}).items():
            layer, _, kind = key.rpartition(".")
            self._pieces[task_number].setdefault(layer, {})[kind] = value

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of training, the pieces of the task before pruning, and how much is pruned."""
        if step != "train":
            return {}
        own = self._pieces[max(self._pieces)].items()
        found = {"pieces": {f"{name}.{k}": value for name, of in own for k, value in of.items()}}
        fraction = self._pruned_fraction
        if self.options.budget is not None:
            known = {} if fraction is None else {"fraction": fraction}
            found["pruning"] = {k: torch.tensor(v, dtype=torch.float64) for k, v in known.items()}
        return found

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of factors of the largest rank."""
        shapes = [layer.weight.shape[:2] for layer in self.layers.values()]
        ranks = [min(self.options.max_rank, out, width) for out, width in shapes]
        sizes = [(k + 1) * sum(of) + of[0] for k, of in zip(ranks, shapes, strict=True)]
        return {"pieces": 4 * sum(sizes), "pruning": 8 * (self.options.budget is not None)}

    # -- using the model ---------------------------------------------------------------------

    @contextmanager
    def task_view(self, task_number: int) -> Iterator[MultiHead]:
        """Give the model as a task knows it, with its own weights once it has them."""
        with super().task_view(task_number) as model, self._weights_of(task_number):
            yield model

    @contextmanager
    def _weights_of(self, task_number: int) -> Iterator[None]:
        pieces = self._pruned(task_number)
        assert not (pieces and self._perturbations), "no other task is used while one is trained"
        layers = self.layers if pieces else {}
        before = {p: p.detach().clone() for name in pieces for p in _parameters(layers[name])}
        with torch.no_grad():
            for name, own in pieces.items():
                weight, bias = layers[name].weight, layers[name].module.bias
                on_device = {k: value.to(weight.device) for k, value in own.items()}
                weight.copy_(perturbed_weight(weight, on_device))
                if bias is not None:
                    bias.copy_(own["bias"])
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in before.items():
                    parameter.copy_(value)

    def _pruned(self, task_number: int) -> dict[str, Tensors]:
        """Return the pieces of a task by layer, with what is pruned zero."""
        own, fraction = self._pieces.get(task_number, {}), self._pruned_fraction
        if not own or fraction is None:
            return own
        return pruned(own, fraction, below=self.options.prune_below)

    # -- training ----------------------------------------------------------------------------

    def trained_in(self, task_number: int) -> set[nn.Parameter]:
        """Return what trains: after the first task layers, with biases, and what is the task's."""
        trained = super().trained_in(task_number)
        if task_number == 1:
            return trained
        adapted = {p for layer in self.layers.values() for p in _parameters(layer)}
        return trained & (adapted | self.model.own_parameters(task_number))

    def begin_task(self, task: Task) -> None:
        """Keep the base, which the probe trains a copy of, as of scales and shifts."""
        super().begin_task(task)
        for norm in self.model.norms():
            norm.start_task_from(task.number, 1)
        self._pieces = {t: own for t, own in self._pieces.items() if t < task.number}
        self._ranks = {}
        parameters = [p for layer in self.layers.values() for p in _parameters(layer)]
        self._base = {p: p.detach().clone() for p in parameters} if not task.is_first else {}

    def phases(self, task: Task) -> list[Phase]:
        """Return, after the first task, the probe and the training of pieces."""
        epochs, probe = self.train.epochs, self.options.probe_epochs
        if task.is_first:
            return [Phase("train", epochs)]
        return [Phase(PROBE, probe), Phase("train", epochs - probe)]

    def begin_phase(self, task: Task, phase: Phase, *, is_resumed: bool = False) -> None:
        """After the probe, put pieces of what it found on the base."""
        super().begin_phase(task, phase, is_resumed=is_resumed)
        if task.is_first or phase.name == PROBE:
            return
        pieces = {} if is_resumed else self._found_pieces(task)
        for name, layer in self.layers.items():
            weight = layer.weight
            with torch.no_grad():
                weight.copy_(self._base[weight])  # a bias goes on from the probe
            weight.requires_grad_(False)
            # A checkpoint fills those of a resumed task, of the ranks that were found before.
            own = pieces.get(name) or empty_pieces(weight.shape, self._ranks[name])
            on_device = {k: value.to(weight.device) for k, value in own.items()}
            self._perturbations[name] = LowRankPerturbation(on_device)
            parametrize.register_parametrization(
                layer.module, "weight", self._perturbations[name], unsafe=True
            )

    def _found_pieces(self, task: Task) -> dict[str, Tensors]:
        """Return R, S, P and Q of what the probe made of the base, by layer."""
        layers = self.layers
        found = {n: rescaled(x.weight, self._base[x.weight]) for n, x in layers.items()}
        if self.options.rank_rule == "flat":
            limits = {name: len(own.sigma) for name, own in found.items()}
        else:
            limits = ranks_of(self._costs(task, found), self.options.importance)
        most = self.options.max_rank
        self._ranks = {name: max(1, min(most, rank)) for name, rank in limits.items()}
        return {name: own.pieces(self._ranks[name]) for name, own in found.items()}

    def _costs(self, task: Task, found: Mapping[str, Rescaled]) -> Tensors:
        """Return what leaving out each direction would cost, by layer, ``[m]`` float64."""
        images = task.train if task.valid is None else task.valid
        size = self.train.batch_size
        num_batches = len(images.batch_slices(size, self.model.smallest_batch(size)))
        weights = {name: layer.weight for name, layer in self.layers.items()}
        squares = squared_gradients(self, images, weights, batch_size=size)
        h = {n: float(g.double().mean()) * len(images) / num_batches for n, g in squares.items()}
        return {n: own.positions * own.sigma.square() * h[n] for n, own in found.items()}

    def state_tensors(self) -> Tensors:
        """Return the ranks, which the shapes of pieces follow from."""
        return {name: torch.tensor(rank) for name, rank in self._ranks.items()}

    def load_state_tensors(self, tensors: Tensors) -> None:
        """Take in the ranks."""
        self._ranks = {name: int(rank) for name, rank in tensors.items()}

    def penalty(self, progress: StepProgress | None) -> torch.Tensor | None:
        """Return the decay of weights in task 1, of pieces later; nothing in the probe."""
        options = self.options
        if not self._perturbations:
            if self._base or not options.decay:
                return None
            squares = [layer.weight.square().sum() for layer in self.layers.values()]
            return options.decay / 2 * torch.stack(squares).sum()
        weights = {"decay": options.decay, "sparsity": options.sparsity}
        goal = 1.0 if options.scales_decay_to == "one" else 0.0
        of_layers = self._perturbations.values()
        terms = [each for own in of_layers for each in own.penalties(**weights, scales_to=goal)]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def end_task(self, task: Task) -> None:
        """Take the pieces off, give the base back, and prune all tasks to the budget."""
        self._pieces[task.number] = {}
        for name, own in self._perturbations.items():
            module = self.layers[name].module
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
            kept = {kind: piece.detach().cpu().clone() for kind, piece in own.named_parameters()}
            if module.bias is not None:
                kept["bias"] = module.bias.detach().cpu().clone()
            self._pieces[task.number][name] = kept
        for parameter, value in self._base.items():
            parameter.copy_(value)
        self._perturbations, self._base = {}, {}
        budget, increment = self.options.budget, self.increment()
        is_over = budget is not None and 0 < budget <= increment
        self._pruned_fraction = 1 - budget / increment if is_over and budget else None

    # -- size --------------------------------------------------------------------------------

    def increment(self, *, is_pruned: bool = False) -> float:
        """Return what later tasks add to the numbers of task 1's network, a fraction.

        Args:
            is_pruned: Of what is left after pruning, count the entries that are not zero.
        """
        model = self.model
        statistics = sum(2 * norm.num_features for norm in model.norms())
        statistics *= model.statistics == "task"
        of_later = model.own_parameters() - model.own_parameters(1)
        base = sum(p.numel() for p in model.parameters() if p not in of_later)
        added = 0
        for t in (t for t in self._pieces if t > 1):
            added += statistics + sum(p.numel() for p in model.own_parameters(t))
            layers = self._pruned(t) if is_pruned else self._pieces[t]
            for kind, value in (each for own in layers.values() for each in own.items()):
                is_sparse = is_pruned and kind in FACTORS
                added += int((value != 0).sum()) if is_sparse else value.numel()
        return added / (base + statistics)

    def measured(self) -> dict[str, Any]:
        """Return the ranks of the task, and the growth of the network in percent."""
        return {"ranks": self._ranks, "growth_percent": 100 * self.increment(is_pruned=True)}


def _parameters(layer: LayerView) -> list[nn.Parameter]:
    """Return weight and bias of a layer, the bias whether or not it is part of the matrix."""
    bias = layer.module.bias
    return [layer.weight] if bias is None else [layer.weight, bias]  # type: ignore[list-item]
