"""NESS: learn in the null space of earlier inputs, estimated from small singular values.

After every task the uncentred covariance of each layer's inputs, C <- C + sum x x^T, is decomposed,
C = U~ Sigma^2 U~^T. The directions with sigma <= tau = eps1 * norm are almost unused by all tasks
so far; they are the fixed basis U of the next task, which learns only inside it:

    W = W_prev + (U V)^T,    V from zero,    ||x^T U V|| <= tau ||V||_2 for every earlier input x.

``scaling=bounded`` (ours) opens every direction, at its own pace: W = W_prev + (U S V)^T with S = 1
up to tau and tau / sigma above, which keeps the same bound. A pace is no limit: ``budget=b`` (ours)
is one, on rho^2 = tr(dW C dW^T) / tr(W_prev C W_prev^T), the mean square relative change of a
layer's outputs on earlier inputs; the update is moved to the nearest one within it. ``mix=K``
(after CODE-CL) gives every task a small matrix of its own in directions that earlier tasks use too.

Remembered: one d x d covariance per layer, whatever the number of tasks; no data.

Source: Pham, Vepakomma, Horvath, "Learning in the Null Space: Small Singular Values for Continual
Learning", CPAL 2026. Departures from the authors' code: covariances are accumulated, each task's
inputs as its own network saw them (``covariance=recompute`` passes all old data through the current
network as they do); all arithmetic on them is float64, with eigenvalues clamped at zero, so that a
rank-deficient layer is free instead of frozen; with SGD the dense weight is trained with a
projected gradient, which is the same thing for the price of plain training.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ness_cli.methods.base_limited import LimitedMethod
from ness_cli.methods.base_mixing import MIXING, MixingMethod
from ness_cli.methods.files import (
    Files,
    MethodFile,
    Recomposition,
    Tensors,
    UpdateBound,
)
from ness_cli.methods.step import TrainStep
from ness_cli.methods.task import Task
from ness_cli.settings.methods.ness import Options
from ness_cli.subspace import factored
from ness_cli.subspace.basis import SubspaceBasis, basis_bytes, filtered_basis, read_bases
from ness_cli.subspace.clip import spectral_norm
from ness_cli.subspace.covariance import pooled
from ness_cli.subspace.decomposition import work_of
from ness_cli.subspace.layer_view import refuse_unmatched
from ness_cli.subspace.limits import as_open
from ness_cli.subspace.mixing import shared_directions
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


class Ness(MixingMethod, LimitedMethod):
    """Update of a task: ``<layer>.V``, float32, in terms of the basis of the task before."""

    options: Options
    files = (
        *LimitedMethod.files,
        MethodFile("update", made_by="train", needed="all"),
        MIXING,
    )
    recomposition = Recomposition(before=("basis",), own=("update",), step=_add_updates)

    def start(self) -> None:
        """Begin with nothing remembered."""
        super().start()
        self._update: Tensors = {}
        self._factors: dict[str, nn.Parameter] = {}

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
    def num_mixed(self) -> int:
        """K, the most directions that a task mixes in a layer."""
        return self.options.mix

    @property
    def recomputes_covariances(self) -> bool:
        """Whether all earlier data is passed through the newest network."""
        return self.options.covariance == "recompute"

    def check_options(self) -> None:
        """Refuse an ``eps1`` or a budget for layers that there are none of.

        Raises:
            SettingsError: Naming the pattern.
        """
        super().check_options()
        for option in ("layer_eps1", "layer_budget"):
            patterns = getattr(self.options, option)
            refuse_unmatched(f"methods.ness.{option}", patterns, self.layers)

    # -- memory ------------------------------------------------------------------------------

    def reads(self, step: str) -> tuple[str, ...]:
        """Return the files of a step; budget and mixing need the covariances too."""
        also = ("covariance",) if step == "train" and (self.has_budget or self.mixes) else ()
        return (*super().reads(step), *also)

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return the files of a step: of training V of every layer, but not of the first task."""
        found = super().outputs(step)
        if step == "train" and self._update:
            found["update"] = self._update
        return found

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of covariances and updates, and at most those of bases."""
        layers, sizes = self.layers.values(), super().file_sizes()
        if self.options.scaling == "hard" and not self.needs_open:
            # The thinner side of a hard cut has no more than half of the columns.
            sizes["basis"] = sum(basis_bytes(x.dim, x.dim // 2) for x in layers)
        return {**sizes, "update": sum(4 * layer.dim * layer.out for layer in layers)}

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
        return {name: basis.projector(self.device) for name, basis in self._bases.items()}

    def begin_task(self, task: Task) -> None:
        """Confine every layer to its basis."""
        self._update = {}
        directions = self.chosen_directions(task)
        super().begin_task(task)
        self.begin_limits(task)
        if self.is_factored and not task.is_first:
            self._factors = {
                name: factored.attach(self._views[name], as_open(basis).scaled.to(self.device))
                for name, basis in self._bases.items()
            }
        self.begin_mixing(task, directions)

    def work_of_choosing(self, task: Task) -> int:
        """Return the most that a sample takes, and two decompositions of every layer."""
        num_images = min(self.options.mix_samples, len(task.train))
        decompositions = sum(2 * work_of(layer.dim) for layer in self.layers.values())
        return num_images * self.work_per_image(task.train) + decompositions

    def directions_to_mix(self, task: Task, advance: Callable[[int], None]) -> Tensors:
        """Return the leading directions that all earlier inputs and the task's own both use."""
        options = self.options
        new = self.covariances_of_sample(task, options.mix_samples, "mixing-samples", advance)
        old = {name: self.without_constant(name, pooled(self._covariances[name])) for name in new}
        return shared_directions(
            old, new, options.mix, by=options.mix_by, advance=advance, device=self.device
        )

    def rate_of(self, layer: str, directions: torch.Tensor) -> float:
        """Return 1 / ||W Q||_2^2, at most 1: a step of M moves W_eff no more than one of W would.

        A step along the gradient (W Q)^T G Q of M moves W_eff by (W Q) (W Q)^T G Q Q^T; without the
        factor leading directions diverge. Adam scales steps itself.
        """
        if self.train.is_adaptive:
            return 1.0
        matrix = self._views[layer].matrix().cpu()[:, : len(directions)]
        return 1 / max(1.0, spectral_norm(matrix @ directions) ** 2)

    @torch.no_grad()
    def decay(self) -> None:
        """Decay toward W_prev; with an anchor, along protected directions besides."""
        super().decay()
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
        for name, limits in self._limits.items():
            layer = self._views[name]
            if not limits.is_limited:
                continue
            if self.is_factored:
                factor = self._factors[name]
                factor.copy_(limits.within(factor.cpu()))
                continue
            previous = self._anchors[name]
            near = limits.nearest(previous, layer.matrix() - previous)
            if near is not None:
                layer.set_matrix(near)

    def end_task(self, task: Task) -> None:
        """Recover V, and set the weights to what W_prev, the basis and V say they are."""
        learned = {name: self._learned(name) for name in self._limits}
        self.end_mixing(task)  # from here on task_view has it
        if self.chooses_budget and learned and task.valid is not None:
            self.tighten(learned, task.valid)
        for name, (previous, v) in learned.items():
            limits, layer = self._limits[name], self._views[name]
            v = limits.within(v)
            # Float32 leakage out of the subspace ends here: files and model say the same.
            layer.set_matrix(limits.basis.recompose(previous, v))
            self._update[f"{name}.V"] = v
            if limits.budget is not None:
                self.note_change(name, limits.budget, layer.matrix())
        self._factors, self._limits = {}, {}
        super().end_task(task)

    def _learned(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return W_prev and V of a layer, which has its plain weight afterwards."""
        layer = self._views[name]
        if self.is_factored:
            v = self._factors[name].detach().cpu()
            factored.detach(layer)
            return layer.matrix().clone(), v
        previous = self._anchors[name]
        return previous, self._limits[name].basis.coefficients(layer.matrix() - previous)

    def basis_of(self, layer: str, found: Spectrum) -> SubspaceBasis:
        """Return what the threshold and the filter leave of a layer's directions."""
        options = self.options
        tau = threshold(found.sigma, rule=options.threshold, eps1=options.eps1_of(layer))
        return filtered_basis(
            found, tau, options.scaling, gamma=options.gamma, keep_open=self.needs_open
        )

    def rule_of(self, layer: str) -> str:
        """Return the threshold rule of a layer."""
        return self.options.rule_of(layer)
