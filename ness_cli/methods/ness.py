"""NESS: learn in the null space of earlier inputs, estimated from small singular values.

After every task the uncentred covariance of each layer's inputs, C <- C + sum x x^T, is decomposed,
C = U~ Sigma^2 U~^T. The directions with sigma <= tau = eps1 * norm are almost unused by all tasks
so far; they are the fixed basis U of the next task, which learns only inside it:

    W = W_prev + (U V)^T,    V from zero,    ||x^T U V|| <= tau ||V||_2 for every earlier input x.

``scaling=bounded`` (ours) opens every direction, at its own pace: W = W_prev + (U S V)^T with S = 1
up to tau and tau / sigma above, which keeps the same bound. A pace is no limit: ``budget=b`` (ours)
is one, on rho^2 = tr(dW C dW^T) / tr(W_prev C W_prev^T), the mean square relative change of a
layer's outputs on earlier inputs; the update is moved to the nearest one within it.

Remembered: one d x d covariance per layer, whatever the number of tasks; no data.

Source: Pham, Vepakomma, Horvath, "Learning in the Null Space: Small Singular Values for Continual
Learning", CPAL 2026. Departures from the authors' code: covariances are accumulated, each task's
inputs as its own network saw them (``covariance=recompute`` passes all old data through the current
network as they do); all arithmetic on them is float64, with eigenvalues clamped at zero, so that a
rank-deficient layer is free instead of frozen; with SGD the dense weight is trained with a
projected gradient, which is the same thing for the price of plain training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from ness_cli.data.batches import Images
from ness_cli.errors import SettingsError, did_you_mean
from ness_cli.methods.base import LayerRow, Task
from ness_cli.methods.base_projected import ProjectedMethod
from ness_cli.methods.files import (
    Files,
    LayerSpectrum,
    MethodFile,
    Recomposition,
    Tensors,
    UpdateBound,
)
from ness_cli.methods.step import TrainStep
from ness_cli.settings.methods.ness import Options
from ness_cli.subspace import factored
from ness_cli.subspace.basis import (
    OpenBasis,
    SubspaceBasis,
    bounded_basis,
    conceptor_basis,
    null_basis,
    open_basis,
    read_bases,
)
from ness_cli.subspace.budget import Directions, LayerBudget, multiplier, shrink_factors
from ness_cli.subspace.clip import clip_spectral_norm, spectral_norm
from ness_cli.subspace.covariance import CovarianceAccumulator, PassProgress, pooled
from ness_cli.subspace.decomposition import for_each_spectrum, work_of
from ness_cli.subspace.projection import Projector
from ness_cli.subspace.spectrum import Spectrum
from ness_cli.subspace.threshold import threshold


def _add_updates(matrices: Tensors, before: Files, own: Files) -> Tensors:
    """Return W = W_prev + (S V)^T of every layer (Eq. 6)."""
    bases, update = read_bases(before["basis"]), own["update"]
    return {
        layer: bases[layer].recompose(matrix, update[f"{layer}.V"])
        for layer, matrix in matrices.items()
    }


class Ness(ProjectedMethod):
    """Memory: ``covariance`` (``<layer>.C``), ``basis`` (``<layer>.U`` or ``.Q``, ``.scale`` ...).

    Update of a task: ``<layer>.V``, in terms of the basis of the task before.
    """

    options: Options
    files = (
        MethodFile("covariance", made_by="build", needed="newest"),
        MethodFile("basis", made_by="build", needed="all"),
        MethodFile("update", made_by="train", needed="all"),
    )
    spectrum_file = "basis"
    recomposition = Recomposition(before=("basis",), own=("update",), step=_add_updates)

    def start(self) -> None:
        """Begin with nothing remembered."""
        self._covariances: Tensors = {}
        self._bases: dict[str, SubspaceBasis] = {}
        self._update: Tensors = {}
        self._factors: dict[str, nn.Parameter] = {}
        self._budgets: dict[str, LayerBudget] = {}
        self._rho: dict[str, float] = {}

    @property
    def is_factored(self) -> bool:
        """Whether V itself is trained; otherwise the dense weight is, projected."""
        if self.options.form == "auto":
            # Adam scales coordinate by coordinate, so the coordinates must be those of V.
            return self.train.is_adaptive
        return self.options.form == "factored"

    @property
    def needs_open(self) -> bool:
        """Whether the open directions must be at hand one by one, however many there are.

        V is trained in their coordinates, or a budget asks what a step along each of them costs.
        """
        return self.is_factored or self.has_budget

    @property
    def has_budget(self) -> bool:
        """Whether updates are held to a budget."""
        return self.options.budget is not None

    def check_options(self) -> None:
        """Refuse an ``eps1`` or a budget for layers that there are none of.

        Raises:
            SettingsError: Naming the pattern.
        """
        super().check_options()
        patterns = {
            "layer_eps1": self.options.layer_eps1,
            "layer_budget": self.options.layer_budget,
        }
        for option, pattern in ((key, pattern) for key, own in patterns.items() for pattern in own):
            if not any(fnmatchcase(name, pattern) for name in self.layers):
                raise SettingsError(
                    f"methods.ness.{option}: no layer matches {pattern!r}"
                    f"{did_you_mean(pattern, self.layers)}",
                    f"the layers are {', '.join(self.layers)}",
                )

    # -- memory ------------------------------------------------------------------------------

    def reads(self, step: str) -> tuple[str, ...]:
        """Return the files of a step.

        For training ``basis``, with a budget ``covariance`` too; for building ``covariance``,
        unless it is recomputed.
        """
        accumulates = self.options.covariance == "accumulate"
        return {
            "train": ("basis", "covariance") if self.has_budget else ("basis",),
            "build": ("covariance",) if accumulates else (),
        }.get(step, ())

    def load_memory(self, files: Files) -> None:
        """Take in covariances and bases."""
        for key, value in files.get("covariance", {}).items():
            self._covariances[key.removesuffix(".C")] = value
        self._bases |= read_bases(files.get("basis", {}))

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return the files of a step.

        Of training V of every layer, float32, but not of the first task; of building covariances
        ``[d, d]`` float64, and the basis of every layer.
        """
        if step == "train":
            return {"update": self._update} if self._update else {}
        return {
            "covariance": {f"{name}.C": c for name, c in self._covariances.items()},
            "basis": {
                f"{name}.{key}": value
                for name, basis in self._bases.items()
                for key, value in basis.tensors().items()
            },
        }

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of covariances and updates, and at most those of bases.

        The thinner side of a hard cut has no more than half of the columns.
        """
        layers = self.layers.values()
        is_halved = self.options.scaling == "hard" and not self.needs_open
        columns = [(x.dim, x.dim // 2 if is_halved else x.dim) for x in layers]
        return {
            "covariance": sum(8 * (x.groups if self.has_budget else 1) * x.dim**2 for x in layers),
            "basis": sum(4 * d * k + 4 * k + 8 * d + 8 for d, k in columns),
            "update": sum(4 * layer.dim * layer.out for layer in layers),
        }

    def spectra(self, tensors: Tensors) -> dict[str, LayerSpectrum]:
        """Return the spectra in ``basis``, by layer."""
        return {
            name: LayerSpectrum(basis.sigma, basis.tau, basis.rank)
            for name, basis in read_bases(tensors).items()
        }

    def bounds(self, before: Files, own: Files) -> dict[str, UpdateBound]:
        """Return tau and ||V||_2 of every layer (Eq. 8)."""
        return {
            name: UpdateBound(basis.tau, spectral_norm(own["update"][f"{name}.V"]))
            for name, basis in read_bases(before["basis"]).items()
        }

    # -- training ----------------------------------------------------------------------------

    def projectors(self, task: Task) -> dict[str, Projector]:
        """Return the projectors onto what the bases allow; none in task 1 or the factored form."""
        if task.is_first or self.is_factored:
            return {}
        device = next(self.model.parameters()).device
        return {name: basis.projector(device) for name, basis in self._bases.items()}

    def begin_task(self, task: Task) -> None:
        """Confine every layer to its basis."""
        self._update, self._rho, self._budgets = {}, {}, {}
        if self.has_budget and not task.is_first:
            self._budgets = self._make_budgets(task.number - 1)
        super().begin_task(task)
        if self.is_factored and not task.is_first:
            device = next(self.model.parameters()).device
            self._factors = {
                name: factored.attach(self._views[name], _open(basis).scaled.to(device))
                for name, basis in self._bases.items()
            }

    def _make_budgets(self, num_earlier: int) -> dict[str, LayerBudget]:
        over = num_earlier if self.options.budget_over == "task" else 1
        found, layers = {}, self.layers
        for name, basis in self._bases.items():
            columns = _open(basis).columns.to(layers[name].weight.device)
            c = self._covariances[name]
            largest = float(basis.sigma[-1])
            directions = [Directions.of_eigenvectors(columns, basis.sigma[: basis.rank], largest)]
            if c.dim() == 3:
                directions = [Directions.within(columns, of_group, largest) for of_group in c]
            found[name] = LayerBudget.of(
                self.options.budget_of(name),
                directions,
                c,
                layers[name].matrix(),
                over,
            )
        return found

    @torch.no_grad()
    def edit_gradients(self, step: TrainStep) -> None:
        """Project the gradients; with an anchor, decay along protected directions only."""
        super().edit_gradients(step)
        if not self.options.anchor:
            return
        for name, projector in self._projectors.items():
            layer = self._views[name]
            if layer.weight.grad is None:
                continue
            change = layer.matrix() - self._anchors[name]
            gradient = layer.gradient()
            gradient.add_(change - projector(change), alpha=self.options.anchor)
            layer.set_gradient(gradient)

    def after_step(self, step: TrainStep) -> None:
        """Move updates into their budget, if that is due after so many steps."""
        every = self.options.budget_steps
        if every is not None and (step.progress.num_done + 1) % every == 0:
            self._keep_to_limits()

    def after_epoch(self, task: Task) -> None:
        """Move updates to the nearest ones within budget and promise."""
        if not task.is_first:
            self._keep_to_limits()

    @torch.no_grad()
    def _keep_to_limits(self) -> None:
        """Apply the budget, then clip the singular values of V (Eq. 10), where asked for."""
        has_clip = self.options.max_output_change is not None
        for name, basis in self._bases.items() if has_clip or self._budgets else ():
            layer = self._views[name]
            if self.is_factored:
                factor = self._factors[name]
                factor.copy_(self._within_limits(name, factor.cpu()))
                continue
            previous = self._anchors[name]
            change = layer.matrix() - previous
            if has_clip:
                v = basis.coefficients(change)
                kept = self._within_limits(name, v)
                if kept is not v:
                    layer.set_matrix(basis.recompose(previous, kept))
            else:
                near = self._budgets[name].nearest(change)
                if near is not change:
                    layer.set_matrix(previous + near)

    def _within_limits(self, layer: str, v: torch.Tensor) -> torch.Tensor:
        """Return V, ``[r, out]``, within the layer's budget and promise; V itself if it is."""
        limit = self._limit(layer)
        near = self._within_budget(layer, v)
        clipped = clip_spectral_norm(near, limit)
        if clipped is near or layer not in self._budgets:
            return clipped
        # Clipping mixes outputs, and so the updates of groups; a factor for all of them does not.
        again = self._within_budget(layer, clipped)
        norm = 0.0 if again is clipped else spectral_norm(again)
        return again if norm <= limit else again * ((1 - 1e-6) * limit / norm)

    def _within_budget(self, layer: str, v: torch.Tensor) -> torch.Tensor:
        """Return the rows of V, ``[r, out]``, of the nearest update within the layer's budget."""
        if layer not in self._budgets:
            return v
        budget, basis = self._budgets[layer], self._bases[layer]
        if len(budget.directions) > 1:
            change = (_open(basis).scaled.double() @ v.double()).T
            near = budget.nearest(change)
            return v if near is change else basis.coefficients(near).to(v)
        (own,) = budget.directions
        scaled = v.double() * basis.scale.double()[:, None]
        nu = multiplier(own.squares, scaled.square().sum(dim=1), budget.allowed)
        if nu == 0:
            return v
        return (v.double() * shrink_factors(own.squares, nu).to(scaled)[:, None]).to(v.dtype)

    def _limit(self, layer: str) -> float:
        """Return the largest ||V||_2 that keeps the promise of ``max_output_change``."""
        allowed, tau = self.options.max_output_change, self._bases[layer].tau
        return math.inf if allowed is None or tau == 0 else math.sqrt(allowed) / tau

    def end_task(self, task: Task) -> None:
        """Recover V, and set the weights to what W_prev, the basis and V say they are."""
        for name, basis in self._bases.items() if not task.is_first else ():
            layer = self._views[name]
            if self.is_factored:
                v = self._factors[name].detach().cpu()
                factored.detach(layer)
                previous = layer.matrix()
            else:
                previous = self._anchors[name]
                v = basis.coefficients(layer.matrix() - previous)
            v = self._within_limits(name, v)
            # Float32 leakage out of the subspace ends here: files and model say the same.
            layer.set_matrix(basis.recompose(previous, v))
            self._update[f"{name}.V"] = v
            if name in self._budgets:
                self._rho[name] = self._budgets[name].rho(layer.matrix())
        self._factors, self._budgets = {}, {}
        super().end_task(task)

    def measured(self) -> dict[str, Any]:
        """Return, with a budget, rho of every layer, and the budget that it was held to."""
        changes = {
            name: {"rho": rho, "budget": self.options.budget_of(name)}
            for name, rho in self._rho.items()
        }
        return {"output_change": changes} if changes else {}

    # -- consolidation -----------------------------------------------------------------------

    def _consolidation_sets(self, task: Task) -> list[Images]:
        past = task.past if self.options.covariance == "recompute" else ()
        return [*past, task.train]

    def consolidation_work(self, task: Task) -> int:
        """Return the multiply-adds of summing up inputs and of decomposing the sums."""
        num_images = sum(map(len, self._consolidation_sets(task)))
        decompositions = sum(work_of(layer.dim) for layer in self.layers.values())
        return num_images * self.work_per_image(task.train) + decompositions

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Add the task's inputs to the covariances and fix the basis of the next task.

        Raises:
            NumericalError: If a layer's inputs are not finite, naming the layer.
        """
        self._bases = {}
        progress = PassProgress(advance, self.work_per_image(task.train))
        accumulator = CovarianceAccumulator(
            self.layers, tick=progress.chunk, by_group=self.has_budget
        )
        with accumulator.accumulate():
            self.forward_images(self._consolidation_sets(task), progress.images)
        accumulator.sum_over_processes()
        earlier = self._covariances
        if self.options.covariance == "recompute" or task.is_first:
            earlier = {}
        self._covariances = accumulator.covariances(onto=earlier)
        device = next(self.model.parameters()).device
        whole = {name: pooled(c) for name, c in self._covariances.items()}
        self._bases = for_each_spectrum(whole, self._basis, advance, device=device)
        return [
            LayerRow(
                name,
                kept.dim,
                kept.rank,
                kept.tau,
                100 * kept.energy,
                self.options.rule_of(name),
            )
            for name, kept in self._bases.items()
        ]

    def _basis(self, layer: str, found: Spectrum) -> SubspaceBasis:
        eps1 = self.options.eps1_of(layer)
        tau = threshold(found.sigma, rule=self.options.threshold, eps1=eps1)
        keep_open = self.needs_open
        match self.options.scaling:
            case "bounded":
                return bounded_basis(found, tau, self.options.gamma, keep_open=keep_open)
            case "conceptor":
                return conceptor_basis(found, tau, keep_open=keep_open)
            case "none":
                return open_basis(found, keep_open=keep_open)
            case _:
                return null_basis(found, tau, keep_open=keep_open)


def _open(basis: SubspaceBasis) -> OpenBasis:
    assert isinstance(basis, OpenBasis), "needs_open has been the same since it was stored"
    return basis
