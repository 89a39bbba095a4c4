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

from ness_cli import seeding
from ness_cli.methods.base_projected import ProjectedMethod
from ness_cli.methods.files import Files, MethodFile, Tensors
from ness_cli.methods.task import LayerRow, Task
from ness_cli.settings.methods.gpm import Options
from ness_cli.subspace.covariance import CovarianceAccumulator, PassProgress
from ness_cli.subspace.decomposition import for_each_spectrum
from ness_cli.subspace.projection import Projector
from ness_cli.subspace.spectrum import Spectrum

UNUSED = 1e-12
"""Share of the energy up to which inputs do not use a direction: rounding. Such directions need no
protection, whatever the threshold says."""


class Gpm(ProjectedMethod):
    """Memory: ``memory`` (``<layer>.M``, ``[d, k]`` float32, orthonormal; ``.N`` completes it)."""

    options: Options
    files: ClassVar[tuple[MethodFile, ...]] = (
        MethodFile("memory", made_by="build", needed="newest", orthonormal=("M", "N")),
    )

    def start(self) -> None:
        """Begin with nothing protected."""
        self._memory: Tensors = {}
        self._rest: Tensors = {}

    def reads(self, step: str) -> tuple[str, ...]:
        """Return ``memory`` for training and building."""
        return ("memory",) if step in ("train", "build") else ()

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
        device = next(self.model.parameters()).device
        return {name: self._projector(name, device) for name in self._memory}

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
        layers = self.layers
        names = list(layers)
        thresholds, limits = self._thresholds_and_limits()
        generator = seeding.generator(self.seed, "gpm-samples", task.number)
        sample = torch.randperm(len(task.train), generator=generator)[: self.options.samples]
        progress = PassProgress(advance, self.work_per_image(task.train))
        accumulator = CovarianceAccumulator(
            layers, dict(zip(names, map(int, limits), strict=True)), progress.chunk
        )
        # One forward pass for the whole sample: with batch statistics it normalises by itself.
        with torch.no_grad(), accumulator.accumulate(), self.task_view(task.number) as model:
            model(task.train.batch(sample).x)
        progress.images(len(sample))
        grams = accumulator.covariances()
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
            percent = max(0.0, 100 * open_energy)
            return LayerRow(name, len(gram), rank, theta, percent, "share of energy")

        device = next(self.model.parameters()).device
        return list(for_each_spectrum(separated, protect, advance, device=device).values())

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
        memory = self._memory[layer]
        return len(gram) - memory.shape[1], 1 - captured(gram, memory)

    def _thresholds_and_limits(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        options, num_layers = self.options, len(self.layers)
        limits = options.layer_samples or options.samples
        return (
            self._per_layer(options.threshold, "threshold", num_layers),
            self._per_layer(limits, "layer_samples", num_layers),
        )


def captured(gram: torch.Tensor, basis: torch.Tensor) -> float:
    """Return the share of the energy of X inside span(basis), a fraction.

    Args:
        gram: X^T X, ``[d, d]`` float64.
        basis: Orthonormal columns, ``[d, k]``.
    """
    total = float(gram.trace())
    m = basis.double()
    return float(torch.sum(m * (gram @ m))) / total if total > 0 else 1.0


@torch.no_grad()
def separate(gram: torch.Tensor, memory: torch.Tensor | None) -> torch.Tensor:
    """Return a matrix whose spectrum has the new inputs below and the protected directions above.

    (I - M M^T) G (I - M M^T) + c M M^T: with c above all other eigenvalues the last k eigenvectors
    span M, the others complete it, in the order of the energy that the inputs have there.

    Args:
        gram: Gram matrix G = X^T X of the new inputs, ``[d, d]`` float64.
        memory: M, protected directions so far, ``[d, k]``, or ``None`` after the first task.
    """
    if memory is None or memory.shape[1] == 0:
        return gram
    m = memory.double()
    above = 2 * float(gram.trace()) or 1.0
    product = gram @ m
    inner = m.T @ product + above * torch.eye(m.shape[1], dtype=torch.float64)
    return gram - product @ m.T - m @ product.T + m @ inner @ m.T


@torch.no_grad()
def extend(
    gram: torch.Tensor,
    memory: torch.Tensor | None,
    found: Spectrum,
    theta: float,
    *,
    first_rank: str,
) -> torch.Tensor:
    """Return the memory with the leading directions of new inputs added (GPM 2021, Eqs. 5-9).

    Args:
        gram: Gram matrix X^T X of the new inputs, ``[d, d]`` float64.
        memory: Protected directions so far, ``[d, k]``, or ``None`` after the first task.
        found: Spectrum of ``separate(gram, memory)``.
        theta: Share of the energy of X to be protected, a fraction.
        first_rank: For the first task ``reach`` takes the fewest directions that reach ``theta``,
            ``below`` one fewer. Later tasks always reach it.

    Returns:
        What ``grow`` returns.
    """
    dim = len(gram)
    total = float(gram.trace())
    old = torch.zeros(dim, 0) if memory is None else memory.float()
    rest = dim - old.shape[1]
    energies = found.sigma[:rest].square().flip(0)
    covered_before = captured(gram, old) if total > 0 else 1.0
    # Covered before each direction is added: a direction is needed while that is below theta.
    covered = covered_before + torch.cumsum(energies, 0) / (total if total > 0 else 1.0)
    below = int((covered < theta).sum())
    reach = 0 if covered_before >= theta else below + 1
    new = below if memory is None and first_rank == "below" else reach
    used = int((energies > UNUSED * total).sum())
    return grow(old, found, min(new, used, rest))


def grow(memory: torch.Tensor, found: Spectrum, new: int) -> torch.Tensor:
    """Return the memory with the strongest new directions added.

    Args:
        memory: Protected directions so far, ``[d, k]`` float32.
        found: Spectrum of ``separate(gram, memory)``.
        new: How many directions are added.

    Returns:
        Orthonormal ``[d, k + new]`` float32, the old directions first, with their bits.
    """
    rest = memory.shape[0] - memory.shape[1]
    directions = found.between(rest - new, rest).flip(1).float()
    return torch.cat([memory, directions], dim=1).contiguous()


def completing(memory: torch.Tensor, found: Spectrum) -> torch.Tensor | None:
    """Return what completes a memory that has more than half of all directions.

    Args:
        memory: As ``grow`` returned it, ``[d, k]``.
        found: The spectrum that it grew by.

    Returns:
        Orthonormal ``[d, d - k]`` float32; ``None`` where it would be no thinner.
    """
    dim, rank = memory.shape
    return None if 2 * rank <= dim else found.between(0, dim - rank).float().contiguous()
