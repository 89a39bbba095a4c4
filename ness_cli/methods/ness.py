"""NESS: learn in the null space of earlier inputs, estimated from small singular values.

After every task the uncentred covariance of each layer's inputs, C <- C + sum x x^T, is decomposed,
C = U~ Sigma^2 U~^T. The directions with sigma <= tau = eps1 * norm are almost unused by all tasks
so far; they are the fixed basis U of the next task, which learns only inside it:

    W = W_prev + (U V)^T,    V from zero,    ||x^T U V|| <= tau ||V||_2 for every earlier input x.

``scaling=bounded`` (ours) opens every direction, at its own pace: W = W_prev + (U S V)^T with S = 1
up to tau and tau / sigma above, which keeps the same bound.

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
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import nn

from ness_cli.data.batches import Images
from ness_cli.errors import SettingsError, did_you_mean
from ness_cli.methods.base import LayerRow, Task, Tensors
from ness_cli.methods.base_projected import ProjectedMethod
from ness_cli.settings.methods.ness import Options
from ness_cli.subspace import factored
from ness_cli.subspace.clip import clip_spectral_norm
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.projection import Projector, coefficients, recompose
from ness_cli.subspace.spectrum import (
    SubspaceBasis,
    bounded_basis,
    null_basis,
    spectrum,
)
from ness_cli.subspace.threshold import threshold


class Ness(ProjectedMethod):
    """Memory: ``covariance`` (``<layer>.C``), ``basis`` (``<layer>.U``, ``.sigma``, ``.tau``).

    With bounded scaling the basis has a ``<layer>.scale`` too.

    Update of a task: ``<layer>.V``, ``[r, out]``, in the basis of the task before.
    """

    options: Options

    def start(self) -> None:
        """Begin with nothing remembered."""
        self._covariances: Tensors = {}
        self._bases: dict[str, SubspaceBasis] = {}
        self._update: Tensors = {}
        self._factors: dict[str, nn.Parameter] = {}

    @property
    def is_factored(self) -> bool:
        """Whether V itself is trained; otherwise the dense weight is, projected."""
        if self.options.form == "auto":
            # Adam scales coordinate by coordinate, so the coordinates must be those of V.
            return self.train.optimizer == "adam"
        return self.options.form == "factored"

    def check_options(self) -> None:
        """Refuse an ``eps1`` for layers that there are none of.

        Raises:
            SettingsError: Naming the pattern.
        """
        super().check_options()
        for pattern in self.options.layer_eps1:
            if not any(fnmatchcase(name, pattern) for name in self.layers):
                raise SettingsError(
                    f"methods.ness.layer_eps1: no layer matches {pattern!r}"
                    f"{did_you_mean(pattern, self.layers)}",
                    f"the layers are {', '.join(self.layers)}",
                )

    # -- memory ------------------------------------------------------------------------------

    def reads(self, step: str) -> tuple[str, ...]:
        """Return ``basis`` for training; ``covariance`` for building, unless it is recomputed."""
        accumulates = self.options.covariance == "accumulate"
        return {"train": ("basis",), "build": ("covariance",) if accumulates else ()}.get(step, ())

    def load_memory(self, files: Mapping[str, Tensors]) -> None:
        """Take in covariances and bases."""
        for key, value in files.get("covariance", {}).items():
            self._covariances[key.removesuffix(".C")] = value
        basis = files.get("basis", {})
        for name in (key.removesuffix(".U") for key in basis if key.endswith(".U")):
            self._bases[name] = SubspaceBasis(
                basis[f"{name}.U"],
                basis[f"{name}.sigma"],
                float(basis[f"{name}.tau"]),
                basis.get(f"{name}.scale"),
            )

    def memory(self) -> dict[str, Tensors]:
        """Return covariances ``[d, d]`` float64 and, per layer, U, sigma, tau and any scale."""
        basis: Tensors = {}
        for name, kept in self._bases.items():
            basis[f"{name}.U"] = kept.basis
            basis[f"{name}.sigma"] = kept.sigma
            basis[f"{name}.tau"] = torch.tensor(kept.tau, dtype=torch.float64)
            if kept.scale is not None:
                basis[f"{name}.scale"] = kept.scale
        return {
            "covariance": {f"{name}.C": c for name, c in self._covariances.items()},
            "basis": basis,
        }

    # -- training ----------------------------------------------------------------------------

    def projectors(self) -> dict[str, Projector]:
        """Return the projectors onto span(U); none in the factored form."""
        if self.is_factored:
            return {}
        return {name: Projector(u, scale) for name, u, scale in self._device_bases()}

    def begin_task(self, task: Task) -> None:
        """Confine every layer to its basis."""
        super().begin_task(task)
        self._update = {}
        if self.is_factored and not task.is_first:
            self._factors = {
                name: factored.attach(self._views[name], u if scale is None else u * scale)
                for name, u, scale in self._device_bases()
            }

    @torch.no_grad()
    def after_epoch(self, task: Task) -> None:
        """Clip the singular values of V, if a largest change of outputs is promised (Eq. 10)."""
        if self.options.max_output_change is None or task.is_first:
            return
        for name, u, scale in self._device_bases():
            layer, limit = self._views[name], self._limit(name)
            if self.is_factored:
                factor = self._factors[name]
                factor.copy_(clip_spectral_norm(factor, limit))
                continue
            previous = self._anchors[name]
            v = coefficients(layer.matrix() - previous, u, scale)
            clipped = clip_spectral_norm(v, limit)
            if clipped is not v:
                layer.set_matrix(recompose(previous, u, clipped, scale))

    def _limit(self, layer: str) -> float:
        """Return the largest ||V||_2 that keeps the promise of ``max_output_change``."""
        allowed, tau = self.options.max_output_change, self._bases[layer].tau
        return math.inf if allowed is None or tau == 0 else math.sqrt(allowed) / tau

    def end_task(self, task: Task) -> None:
        """Recover V, and set the weights to what W_prev, U and V say they are."""
        for name, u, scale in self._device_bases() if not task.is_first else ():
            layer = self._views[name]
            if self.is_factored:
                v = self._factors[name].detach()
                factored.detach(layer)
                previous = layer.matrix()
            else:
                previous = self._anchors[name]
                v = coefficients(layer.matrix() - previous, u, scale)
            v = clip_spectral_norm(v, self._limit(name))
            # Float32 leakage out of the subspace ends here: files and model say the same.
            layer.set_matrix(recompose(previous, u, v, scale))
            self._update[f"{name}.V"] = v
        self._factors = {}
        super().end_task(task)

    def update(self) -> Tensors:
        """Return V of every layer, ``[r, out]`` float32; nothing after the first task."""
        return self._update

    def _device_bases(self) -> list[tuple[str, torch.Tensor, torch.Tensor | None]]:
        device = next(self.model.parameters()).device
        return [
            (name, kept.basis.to(device), None if kept.scale is None else kept.scale.to(device))
            for name, kept in self._bases.items()
        ]

    # -- consolidation -----------------------------------------------------------------------

    def _consolidation_sets(self, task: Task) -> list[Images]:
        past = task.past if self.options.covariance == "recompute" else ()
        return [*past, task.train]

    def consolidation_images(self, task: Task) -> int:
        """Return the number of images whose layer inputs are summed."""
        return sum(map(len, self._consolidation_sets(task)))

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Add the task's inputs to the covariances and fix the basis of the next task.

        Raises:
            NumericalError: If a layer's inputs are not finite, naming the layer.
        """
        accumulator = CovarianceAccumulator(self.layers)
        with accumulator.watch():
            self.look_at(self._consolidation_sets(task), advance)
        accumulator.sum_over_processes()
        covariances = accumulator.covariances()
        if self.options.covariance == "accumulate" and not task.is_first:
            covariances = {name: self._covariances[name] + c for name, c in covariances.items()}
        self._covariances = covariances
        self._bases = {name: self._basis(name, c) for name, c in covariances.items()}
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

    def _basis(self, layer: str, covariance: torch.Tensor) -> SubspaceBasis:
        found = spectrum(covariance, layer=layer)
        eps1 = self.options.eps1_of(layer)
        tau = threshold(found.sigma, rule=self.options.threshold, eps1=eps1)
        if self.options.scaling == "bounded":
            return bounded_basis(found, tau, self.options.gamma)
        return null_basis(found, tau)
