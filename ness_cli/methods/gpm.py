"""GPM: keep every step off the leading directions of earlier inputs.

After every task a few training images are passed through the network; the leading singular vectors
of each layer's inputs, as many as carry a share theta_t of their energy, join a memory M. From the
second task on

    G <- G - G M M^T.

Remembered: M, ``[d, k]`` per layer, growing until it spans everything, and where it spans more than
half, the directions that complete it: what is left of a step is the same, made from fewer columns.

Source: Saha, Garg, Roy, "Gradient Projection Memory for Continual Learning", ICLR 2021. Departures
from the authors' code: singular vectors come from the Gram matrix of the inputs, X^T X, whose
eigenvalues are the squared singular values (same subspace, a tenth of the time); at a threshold of
1 they protect every direction, used or not, and here those that no input uses stay open; decay, if
any, pulls toward the last task's weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch

from ness_cli.methods.base_projected import ProjectedMethod
from ness_cli.methods.files import Files, MethodFile, Tensors
from ness_cli.methods.task import LayerRow, Task
from ness_cli.settings.methods.gpm import Options
from ness_cli.subspace.decomposition import for_each_spectrum
from ness_cli.subspace.projection import Projector
from ness_cli.subspace.protected_directions import completing, extend, room, separate
from ness_cli.subspace.spectrum import Spectrum


class Gpm(ProjectedMethod):
    """Memory: ``memory`` (``<layer>.M``, ``[d, k]`` float32, orthonormal; ``.N`` completes it)."""

    options: Options
    files: ClassVar[tuple[MethodFile, ...]] = (
        MethodFile(
            "memory",
            made_by="build",
            needed="newest",
            read_by=("train", "build"),
            orthonormal=("M", "N"),
        ),
    )

    def start(self) -> None:
        """Begin with nothing protected."""
        self._memory: Tensors = {}
        self._rest: Tensors = {}

    def load_memory(self, files: Files) -> None:
        """Take in the protected directions."""
        kinds = self._kinds()
        for key, value in files.get("memory", {}).items():
            layer, _, kind = key.rpartition(".")
            kinds[kind][layer] = value

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of building, the protected directions of every layer, and what goes with them."""
        if step != "build":
            return {}
        kinds = self._kinds().items()
        return {"memory": {f"{name}.{k}": value for k, own in kinds for name, value in own.items()}}

    def _kinds(self) -> dict[str, Tensors]:
        """Return what is remembered of layers, by the last part of its names in the file."""
        return {"M": self._memory, "N": self._rest}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of a memory that spans everything."""
        return {"memory": sum(4 * layer.dim**2 for layer in self.layers.values())}

    def projectors(self, task: Task) -> dict[str, Projector]:
        """Return the projections off the protected directions; the first task is free."""
        if task.is_first:
            return {}
        return {name: self._projector(name, self.device) for name in self._memory}

    def _projector(self, layer: str, device: torch.device) -> Projector:
        rest = self._rest.get(layer)
        return Projector.off(
            self._memory[layer].to(device), rest=None if rest is None else rest.to(device)
        )

    def check_options(self) -> None:
        """Refuse lists of options that are not one value per layer.

        Raises:
            SettingsError: If an option lists another number of layers than the network has.
        """
        super().check_options()
        self._thresholds_and_limits()

    def consolidation_work(self, task: Task) -> int:
        """Return the multiply-adds of summing up the sample and of decomposing the sums."""
        return self.work_of_sample(task.train, self.options.samples)

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Add the leading directions of this task's inputs to the memory.

        Raises:
            NumericalError: If a layer's inputs are not finite, naming the layer.
            SettingsError: If an option lists another number of layers than the network has.
        """
        names = list(self.layers)
        thresholds, limits = self._thresholds_and_limits()
        most = dict(zip(names, map(int, limits), strict=True))
        sample = self.sample_of(task, self.options.samples, "gpm-samples")
        grams = self.grams_of(task, sample, advance, max_images=most)
        increase = self.options.threshold_increase * (task.number - 1)
        thetas = dict(zip(names, (min(1.0, theta + increase) for theta in thresholds), strict=True))
        separated = {}
        for name, gram in grams.items():
            separated[name] = separate(gram, self._memory.get(name))
            advance(0)

        def protect(name: str, found: Spectrum) -> LayerRow:
            gram, theta = grams[name], thetas[name]
            self.protect(name, gram, found, theta)
            rank, open_energy = self.room(name, gram)
            return LayerRow(name, len(gram), rank, theta, 100 * open_energy, "share of energy")

        found = for_each_spectrum(separated, protect, advance, device=self.device)
        return list(found.values())

    def protect(self, layer: str, gram: torch.Tensor, found: Spectrum, theta: float) -> None:
        """Add the leading directions of a layer's new inputs to the memory.

        Args:
            layer: Its name.
            gram: Gram matrix X^T X of the inputs, ``[d, d]`` float64.
            found: Spectrum of ``separate(gram, memory)``.
            theta: Share of their energy to be protected, a fraction.
        """
        old, rule = self._memory.get(layer), self.options.first_rank
        self._remember(layer, extend(gram, old, found, theta, first_rank=rule), found)

    def _remember(self, layer: str, memory: torch.Tensor, found: Spectrum) -> None:
        """Replace the protected directions of a layer, and what completes them."""
        self._memory[layer] = memory
        rest = completing(memory, found)
        if rest is None:
            self._rest.pop(layer, None)
        else:
            self._rest[layer] = rest

    def room(self, layer: str, gram: torch.Tensor) -> tuple[int, float]:
        """Return how many directions of a layer are open, and the share of energy they see."""
        return room(gram, self._memory[layer])

    def _thresholds_and_limits(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        options, num_layers = self.options, len(self.layers)
        limits = options.layer_samples or options.samples
        return (
            self._per_layer(options.threshold, "threshold", num_layers),
            self._per_layer(limits, "layer_samples", num_layers),
        )
