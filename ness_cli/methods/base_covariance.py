"""Methods that remember what went into every layer as one matrix, C = sum of x x^T.

After every task its inputs, as its own network saw them, are added: the matrices of all tasks
together are no larger than that of one, and no data is kept. Decomposed they say which directions
earlier tasks use, and how much; the basis of the next task follows from that.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch

from ness_cli.data.batches import Images
from ness_cli.methods.base_projected import ProjectedMethod
from ness_cli.methods.files import (
    Files,
    LayerSpectrum,
    MethodFile,
    RelativeChange,
    Tensors,
    by_layer,
    with_kind,
)
from ness_cli.methods.task import LayerRow, Task
from ness_cli.subspace.basis import SubspaceBasis, basis_bytes, read_bases
from ness_cli.subspace.budget import rho_of_update
from ness_cli.subspace.covariance import CovarianceAccumulator, PassProgress, pooled
from ness_cli.subspace.decomposition import for_each_spectrum, work_of
from ness_cli.subspace.layer_inputs import observed_inputs
from ness_cli.subspace.spectrum import Spectrum


class CovarianceMethod(ProjectedMethod):
    """Memory: ``covariance`` (``<layer>.C``), ``basis`` (``<layer>.U`` or ``.Q``, ``.scale`` ...).

    Covariances are ``[d, d]`` float64, or ``[g, d, d]`` where groups are kept apart.
    """

    files: ClassVar[tuple[MethodFile, ...]] = (
        MethodFile("covariance", made_by="build", needed="newest", symmetric=("C",)),
        MethodFile("basis", made_by="build", needed="all", orthonormal=("U", "Q")),
    )
    spectrum_file = "basis"

    def start(self) -> None:
        """Begin with nothing remembered."""
        self._covariances: Tensors = {}
        self._bases: dict[str, SubspaceBasis] = {}

    @property
    def recomputes_covariances(self) -> bool:
        """Whether the inputs of all tasks are passed through the newest network instead."""
        return False

    @property
    def keeps_groups_apart(self) -> bool:
        """Whether the groups of a grouped convolution have covariances of their own."""
        return False

    def summed(self, x: torch.Tensor) -> torch.Tensor:
        """Return what of a batch that goes into a layer, ``[n, ...]``, is summed up: all of it."""
        return x

    @abstractmethod
    def basis_of(self, layer: str, found: Spectrum) -> SubspaceBasis:
        """Return the basis that the spectrum of a layer's inputs leaves the next task."""

    @abstractmethod
    def rule_of(self, layer: str) -> str:
        """Return what put the threshold of a layer where it is, in words."""

    # -- files -------------------------------------------------------------------------------

    def reads(self, step: str) -> tuple[str, ...]:
        """Return the basis for training; for building the covariances, unless recomputed.

        For measuring an update the covariances before it.
        """
        return {
            "train": ("basis",),
            "build": () if self.recomputes_covariances else ("covariance",),
            "measure": ("covariance",),
        }.get(step, ())

    def load_memory(self, files: Files) -> None:
        """Take in covariances and bases."""
        self._covariances |= by_layer(files.get("covariance", {}), "C")
        self._bases |= read_bases(files.get("basis", {}))

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of building, covariance and basis of every layer."""
        if step != "build":
            return {}
        return {
            "covariance": with_kind(self._covariances, "C"),
            "basis": {
                f"{name}.{key}": value
                for name, basis in self._bases.items()
                for key, value in basis.tensors().items()
            },
        }

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of covariances, and those of bases of all directions."""
        layers = self.layers.values()
        return {
            "covariance": sum(
                8 * (x.groups if self.keeps_groups_apart else 1) * x.dim**2 for x in layers
            ),
            "basis": sum(basis_bytes(x.dim, x.dim) for x in layers),
        }

    def spectra(self, tensors: Tensors) -> dict[str, LayerSpectrum]:
        """Return the spectra in ``basis``, by layer."""
        return {
            name: LayerSpectrum(basis.sigma, basis.tau, basis.rank)
            for name, basis in read_bases(tensors).items()
        }

    def allowed_rho(self, layer: str) -> float | None:
        """Return the most that an update may move a layer's outputs, ``None`` without a limit."""
        return None

    def output_changes(self, before: Tensors, after: Tensors) -> dict[str, RelativeChange]:
        """Return rho of every layer, from the covariance of the inputs before the update."""
        return {
            name: RelativeChange(
                rho_of_update(before[name], after[name], self._covariances[name]),
                self.allowed_rho(name),
                is_pooled=layer.groups > 1 and self._covariances[name].dim() == 2,
            )
            for name, layer in self.layers.items()
        }

    # -- consolidation -----------------------------------------------------------------------

    def _consolidation_sets(self, task: Task) -> list[Images]:
        past = task.past if self.recomputes_covariances else ()
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
        self._accumulate(task, advance)
        whole = {name: pooled(c) for name, c in self._covariances.items()}
        self._bases = for_each_spectrum(whole, self.basis_of, advance, device=self.device)
        return [
            LayerRow(name, own.dim, own.rank, own.tau, 100 * own.energy, self.rule_of(name))
            for name, own in self._bases.items()
        ]

    def _accumulate(self, task: Task, advance: Callable[[int], None]) -> None:
        progress = PassProgress(advance, self.work_per_image(task.train))
        accumulator = CovarianceAccumulator(
            self.layers, tick=progress.chunk, by_group=self.keeps_groups_apart
        )

        def see(name: str, x: torch.Tensor) -> None:
            accumulator.add(name, self.summed(x))

        with observed_inputs(self.layers, see):
            self.forward_images(self._consolidation_sets(task), progress.images)
        accumulator.sum_over_processes()
        starts_over = self.recomputes_covariances or task.is_first
        self._covariances = accumulator.covariances(
            {} if starts_over else self._covariances, self.input_maps(task.number)
        )
