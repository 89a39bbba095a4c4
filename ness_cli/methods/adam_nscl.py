"""Adam-NSCL: whatever step the optimiser would make, take off what earlier inputs would see of it.

After every task the uncentred covariance of each layer's inputs, C <- C + sum x x^T, is decomposed.
The eigenvectors with an eigenvalue of at most a times the smallest are the columns of U, and the
next task's steps are

    W <- W + u U U^T,    u the whole step of Adam, whose moments are those of the raw gradient.

Decay is part of u, so that it acts inside the null space alone. With any other optimiser u is its
step. With ``norm_strength=c`` the scales and shifts b that tasks share train on, and the loss has

    c sum_j F_j (b - b_j)^2

over earlier tasks j, b_j their values then and F_j squared gradients of the loss of predictions.

Remembered: C and U, or what completes it, per layer; of scales and shifts three numbers each.

Source: Wang, Li, Sun, Xu, "Training Networks in Null Space of Feature Covariance for Continual
Learning", CVPR 2021. Departures from the authors' code: eigenvalues are computed in float64, and
those that rounding cannot tell from zero count as the least that can be told, so that the rule
holds on inputs of deficient rank; the projection is not divided by its norm unless asked for; the
projections are made whether or not a gradient is there (with a newer torch theirs are left out,
unnoticed); inputs are those of images without augmentation; statistics of normalisation belong to
tasks and do not run on; the sum over earlier tasks is kept as three sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from ness_cli.data.batches import Images
from ness_cli.methods.base_covariance import CovarianceMethod
from ness_cli.methods.files import Files, MethodFile, Tensors
from ness_cli.methods.fisher import squared_gradients
from ness_cli.methods.quadratics import Quadratics
from ness_cli.methods.step import StepProgress, TrainStep
from ness_cli.methods.task import LayerRow, Task
from ness_cli.optim.make import ParameterGroup
from ness_cli.settings.methods.adam_nscl import Options
from ness_cli.subspace.basis import SubspaceBasis, basis_bytes, null_basis
from ness_cli.subspace.covariance import PassProgress
from ness_cli.subspace.projection import Projector, project_all_
from ness_cli.subspace.spectrum import Spectrum
from ness_cli.subspace.threshold import energy


class AdamNscl(CovarianceMethod):
    """Memory: ``covariance`` and ``basis`` as of NESS, ``norms`` (the sums over j)."""

    options: Options
    files = (
        MethodFile("covariance", made_by="build", needed="newest", symmetric=("C",)),
        MethodFile("basis", made_by="build", needed="newest", orthonormal=("U", "Q")),
        MethodFile("norms", made_by="build", needed="newest"),
    )
    projects_rows = False  # the optimiser sees the raw gradient

    def start(self) -> None:
        """Begin with nothing remembered."""
        super().start()
        self._pulls = Quadratics()

    def reads(self, step: str) -> tuple[str, ...]:
        """Return bases or covariances, and with them the sums of scales and shifts.

        Means of batches do not say what an update does to the outputs of single images.
        """
        if step == "measure":
            return super().reads(step) if self.options.covariance == "all" else ()
        norms = ("norms",) if step in ("train", "build") and self._shared_norms() else ()
        return (*super().reads(step), *norms)

    def load_memory(self, files: Files) -> None:
        """Take in covariances, bases, and what is known of scales and shifts."""
        super().load_memory(files)
        if "norms" in files:
            self._pulls = Quadratics(files["norms"])

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of building, all of its files."""
        found = super().outputs(step)
        return {**found, "norms": self._pulls.tensors} if found and self._shared_norms() else found

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of covariances, of the thinner side of bases, and of three sums."""
        dims = [layer.dim for layer in self.layers.values()]
        return {
            **super().file_sizes(),
            "basis": sum(basis_bytes(d, d // 2) for d in dims),
            "norms": sum(3 * 4 * p.numel() for p in self._shared_norms().values()),
        }

    def _shared_norms(self) -> dict[str, nn.Parameter]:
        """Return the scales and shifts that EWC holds, by name; none where they rest."""
        if self.options.norm_strength is None:
            return {}
        shared = self.model.shared_affine()
        return {name: p for name, p in self.model.named_parameters() if p in shared}

    # -- training ----------------------------------------------------------------------------

    def trained_in(self, task_number: int) -> set[nn.Parameter]:
        """Return the parameters that train in a task, with shared scales and shifts if they do."""
        return super().trained_in(task_number) | set(self._shared_norms().values())

    def projectors(self, task: Task) -> dict[str, Projector]:
        """Return the projections onto the null spaces; the first task is free."""
        if task.is_first:
            return {}
        device = next(self.model.parameters()).device
        return {name: basis.projector(device) for name, basis in self._bases.items()}

    def begin_task(self, task: Task) -> None:
        """Confine every layer, and hold scales and shifts."""
        super().begin_task(task)
        self._pulls.hold(self._shared_norms())

    def parameter_groups(self, task: Task) -> list[ParameterGroup]:
        """Return layers, shared scales and shifts, and the rest, each with a rate of its own.

        Heads do not decay.
        """
        options, everything = self.options, self.trainable()
        layers = {id(p) for view in self.layers.values() for p in view.parameters.values()}
        norms = {id(p) for p in self.model.shared_affine()}
        own = {n: p for n, p in everything.items() if id(p) in layers}
        shared = {n: p for n, p in everything.items() if id(p) in norms}
        heads = {n: p for n, p in everything.items() if n.startswith("heads.") and n not in own}
        taken = {*own, *shared, *heads}
        factor = options.first_lr_factor if task.is_first else options.lr_factor
        return [
            ParameterGroup(own, lr_factor=factor),
            ParameterGroup(shared, lr_factor=options.norm_lr_factor),
            ParameterGroup(heads, weight_decay=0.0),
            ParameterGroup({n: p for n, p in everything.items() if n not in taken}),
        ]

    def penalty(self, progress: StepProgress | None) -> torch.Tensor | None:
        """Return c sum_j F_j (b - b_j)^2, from sums over j; nothing without scales and shifts."""
        value = self._pulls.value()
        return None if value is None else (self.options.norm_strength or 0.0) * value

    def edit_gradients(self, step: TrainStep) -> None:
        """Leave gradients as they are: the step is projected."""

    @torch.no_grad()
    def apply(self, step: TrainStep, optimizer: torch.optim.Optimizer) -> None:
        """Make the optimiser's step and keep of it, per layer, what lies in the null space."""
        moving = {name: p for name, p in self._projectors.items() if p.rank}
        before = {name: self._views[name].matrix().clone() for name in moving}
        optimizer.step()
        changes = {name: self._views[name].matrix() - old for name, old in before.items()}
        project_all_((projector, changes[name]) for name, projector in moving.items())
        for name, change in changes.items():
            if self.options.scaling == "frobenius":
                change /= math.sqrt(moving[name].rank)
            self._views[name].set_matrix(before[name].add_(change))

    # -- consolidation -----------------------------------------------------------------------

    def batch_slices(self, images: Images) -> list[slice]:
        """Return the batches to pass through: where their means count, those of training."""
        if self.options.covariance == "all":
            return super().batch_slices(images)
        size = self.train.batch_size
        return images.batch_slices(size, self.model.smallest_batch(size))

    def summed(self, x: torch.Tensor) -> torch.Tensor:
        """Return the images, or their mean."""
        return x if self.options.covariance == "all" else x.mean(dim=0, keepdim=True)

    def basis_of(self, layer: str, found: Spectrum) -> SubspaceBasis:
        """Return the directions of the smallest eigenvalues."""
        if self.options.threshold == "energy":
            return null_basis(found, energy(found.sigma, self.options.energy))
        return null_basis(found, smallest(found.sigma, self.options.factor))

    def rule_of(self, layer: str) -> str:
        """Return the rule and its number."""
        rule = self.options.threshold
        amount = self.options.factor if rule == "smallest" else self.options.energy
        return f"{rule} {amount:g}"

    def consolidation_work(self, task: Task) -> int:
        """Return the multiply-adds of building, with a pass for scales and shifts if they train."""
        own = len(task.train) * self.work_per_image(task.train) if self._shared_norms() else 0
        return super().consolidation_work(task) + own

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Find the null space of all inputs so far, and what holds scales and shifts.

        Raises:
            NumericalError: If a layer's inputs are not finite, naming the layer.
        """
        self._hold_norms(task, PassProgress(advance, self.work_per_image(task.train)).images)
        return super().consolidate(task, advance)

    def _hold_norms(self, task: Task, advance: Callable[[int], None]) -> None:
        """Add what pulls scales and shifts back to where this task has them."""
        shared, size = self._shared_norms(), self.train.batch_size
        if not shared:
            return
        found = squared_gradients(
            self, task.train, shared, batch_size=size, of_predicted=True, advance=advance
        )
        num_batches = len(task.train.batch_slices(size, self.model.smallest_batch(size)))
        for name, square in found.items():
            self._pulls.add(name, square * len(task.train) / num_batches, shared[name])


def smallest(sigma: torch.Tensor, factor: float) -> float:
    """Return the root of ``factor`` times the smallest eigenvalue (Wang et al. 2021, Sec. 4.2).

    Args:
        sigma: Singular values of the inputs, ``[d]`` float64, ascending.
        factor: At least 1; an eigenvalue below rounding counts as d eps times the largest.
    """
    eigenvalues = sigma.square()
    rounding = len(sigma) * torch.finfo(torch.float64).eps * float(eigenvalues[-1])
    return math.sqrt(factor * max(float(eigenvalues[0]), rounding))
