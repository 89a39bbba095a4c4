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

import torch

from ness_cli.data.batches import Images
from ness_cli.methods.base_covariance import CovarianceMethod
from ness_cli.methods.base_norms import NORMS, HeldNormsMethod
from ness_cli.methods.files import MethodFile
from ness_cli.methods.step import TrainStep
from ness_cli.methods.task import Task
from ness_cli.optim.make import ParameterGroup, divided
from ness_cli.settings.methods.adam_nscl import Options
from ness_cli.subspace.basis import SubspaceBasis, basis_bytes, null_basis
from ness_cli.subspace.projection import Projector, project_all_
from ness_cli.subspace.spectrum import Spectrum
from ness_cli.subspace.threshold import energy


class AdamNscl(HeldNormsMethod, CovarianceMethod):
    """Memory: ``covariance`` and ``basis`` as of NESS, ``norms`` (the sums over j)."""

    options: Options
    files = (
        MethodFile("covariance", made_by="build", needed="newest", symmetric=("C",)),
        MethodFile("basis", made_by="build", needed="newest", orthonormal=("U", "Q")),
        NORMS,
    )
    projects_rows = False  # the optimiser sees the raw gradient

    def reads(self, step: str) -> tuple[str, ...]:
        """Return the files of a step.

        Means of batches do not say what an update does to the outputs of single images.
        """
        if step == "measure" and self.options.covariance != "all":
            return ()
        return super().reads(step)

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of its files, of bases those of the thinner side."""
        dims = [layer.dim for layer in self.layers.values()]
        return {**super().file_sizes(), "basis": sum(basis_bytes(d, d // 2) for d in dims)}

    # -- training ----------------------------------------------------------------------------

    def projectors(self, task: Task) -> dict[str, Projector]:
        """Return the projections onto the null spaces; the first task is free."""
        if task.is_first:
            return {}
        return {name: basis.projector(self.device) for name, basis in self._bases.items()}

    def parameter_groups(self, task: Task) -> list[ParameterGroup]:
        """Return layers, shared scales and shifts, and the rest, each with a rate of its own.

        Heads do not decay.
        """
        options, model = self.options, self.model
        own, norms, heads, rest = divided(
            self.trainable(), self.adapted(), model.shared_affine(), model.heads.parameters()
        )
        factor = options.first_lr_factor if task.is_first else options.lr_factor
        return [
            ParameterGroup(own, lr_factor=factor),
            ParameterGroup(norms, lr_factor=options.norm_lr_factor),
            ParameterGroup(heads, weight_decay=0.0),
            ParameterGroup(rest),
        ]

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


def smallest(sigma: torch.Tensor, factor: float) -> float:
    """Return the root of ``factor`` times the smallest eigenvalue (Wang et al. 2021, Sec. 4.2).

    Args:
        sigma: Singular values of the inputs, ``[d]`` float64, ascending.
        factor: At least 1; an eigenvalue below rounding counts as d eps times the largest.
    """
    eigenvalues = sigma.square()
    rounding = len(sigma) * torch.finfo(torch.float64).eps * float(eigenvalues[-1])
    return math.sqrt(factor * max(float(eigenvalues[0]), rounding))
