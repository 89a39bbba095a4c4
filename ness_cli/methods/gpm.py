"""GPM: keep every step off the leading directions of earlier inputs.

After every task a few training images are passed through the network; the leading singular vectors
of each layer's inputs, as many as carry a share theta_t of their energy, join a memory M. From the
second task on

    G <- G - G M M^T.

Remembered: M, ``[d, k]`` per layer, growing until it spans everything.

Source: Saha, Garg, Roy, "Gradient Projection Memory for Continual Learning", ICLR 2021. Departures
from the authors' code: singular vectors come from the Gram matrix of the inputs, X^T X, whose
eigenvalues are the squared singular values (same subspace, a tenth of the time); M is made
orthonormal again whenever it grows; at a threshold of 1 they protect every direction, used or not,
and here those that no input uses stay open; decay, if any, pulls toward the last task's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from ness_cli import seeding
from ness_cli.errors import SettingsError
from ness_cli.methods.base import LayerRow, Task, Tensors
from ness_cli.methods.base_projected import ProjectedMethod
from ness_cli.settings.methods.gpm import Options
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.projection import Projector
from ness_cli.subspace.spectrum import spectrum
from ness_cli.words import counted


class Gpm(ProjectedMethod):
    """Memory: ``memory`` (``<layer>.M``, ``[d, k]`` float32, orthonormal)."""

    options: Options

    def start(self) -> None:
        """Begin with nothing protected."""
        self._memory: Tensors = {}

    def reads(self, step: str) -> tuple[str, ...]:
        """Return ``memory`` for training and building."""
        return ("memory",) if step in ("train", "build") else ()

    def load_memory(self, files: Mapping[str, Tensors]) -> None:
        """Take in the protected directions."""
        for key, value in files.get("memory", {}).items():
            self._memory[key.removesuffix(".M")] = value

    def memory(self) -> dict[str, Tensors]:
        """Return the protected directions of every layer."""
        return {"memory": {f"{name}.M": m for name, m in self._memory.items()}}

    def projectors(self) -> dict[str, Projector]:
        """Return the projections off the protected directions."""
        device = next(self.model.parameters()).device
        return {name: Projector.off(m.to(device)) for name, m in self._memory.items()}

    def check_options(self) -> None:
        """Refuse lists of options that are not one value per layer.

        Raises:
            SettingsError: If an option lists another number of layers than the network has.
        """
        super().check_options()
        self._thresholds_and_limits()

    def consolidation_images(self, task: Task) -> int:
        """Return the size of the sample."""
        return min(self.options.samples, len(task.train))

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
        accumulator = CovarianceAccumulator(
            layers, max_images=dict(zip(names, map(int, limits), strict=True))
        )
        # One forward pass for the whole sample: with batch statistics it normalises by itself.
        with torch.no_grad(), accumulator.watch(), self.task_view(task.number) as model:
            model(task.train.batch(sample).x)
        advance(len(sample))
        rows = []
        for (name, gram), theta in zip(accumulator.covariances().items(), thresholds, strict=True):
            theta = min(1.0, theta + self.options.threshold_increase * (task.number - 1))
            self.protect(name, gram, theta)
            rank, open_energy = self.room(name, gram)
            percent = max(0.0, 100 * open_energy)
            rows.append(LayerRow(name, len(gram), rank, theta, percent, "share of energy"))
        return rows

    def protect(self, layer: str, gram: torch.Tensor, theta: float) -> None:
        """Add the leading directions of a layer's new inputs to the memory.

        Args:
            layer: Its name.
            gram: Gram matrix X^T X of the inputs, ``[d, d]`` float64.
            theta: Share of their energy to be protected, a fraction.
        """
        old, rule = self._memory.get(layer), self.options.first_rank
        self._memory[layer] = extend(gram, old, theta, first_rank=rule, layer=layer)

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

    def _per_layer(
        self, value: float | tuple[float, ...] | tuple[int, ...], option: str, num_layers: int
    ) -> tuple[float, ...]:
        values = value if isinstance(value, tuple) else (value,) * num_layers
        if len(values) != num_layers:
            raise SettingsError(
                f"methods.{self.name}.{option}: {counted(len(values), 'value')} for "
                f"{counted(num_layers, 'layer')}",
                f"give one value, or one for each of {', '.join(self.layers)}",
            )
        return values


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
def extend(
    gram: torch.Tensor,
    memory: torch.Tensor | None,
    theta: float,
    *,
    first_rank: str,
    layer: str,
) -> torch.Tensor:
    """Return the memory with the leading directions of new inputs added (GPM 2021, Eqs. 5-9).

    Args:
        gram: Gram matrix X^T X of the new inputs, ``[d, d]`` float64.
        memory: Protected directions so far, ``[d, k]``, or ``None`` after the first task.
        theta: Share of the energy of X to be protected, a fraction.
        first_rank: For the first task ``reach`` takes the fewest directions that reach ``theta``,
            ``below`` one fewer. Later tasks always reach it.
        layer: Name of the layer, for error messages.

    Returns:
        Orthonormal ``[d, k + new]`` float32; as it was if old directions already carry the share.
    """
    dim = len(gram)
    total = float(gram.trace())
    old = torch.zeros(dim, 0, dtype=torch.float64) if memory is None else memory.double()
    off = torch.eye(dim, dtype=torch.float64) - old @ old.T
    residual = off @ gram @ off
    found = spectrum(residual, layer=layer)
    energies = found.sigma.square().flip(0)
    share = captured(gram, old) if total > 0 else 1.0
    # Shares before each direction is added: a direction is needed while they are below theta.
    shares = share + torch.cumsum(energies, 0) / (total if total > 0 else 1.0)
    below = int((shares < theta).sum())
    reach = 0 if share >= theta else below + 1
    new = below if memory is None and first_rank == "below" else reach
    # Directions that the inputs do not use at all need no protection, whatever theta says.
    used = int((energies > 1e-12 * total).sum())
    new = min(new, used, dim - old.shape[1])
    if new == 0:
        return old.float()
    directions = found.between(dim - new, dim).flip(1)
    # Rounding must not pile up over tasks: orthonormal again, spanning the same space.
    basis, _ = torch.linalg.qr(torch.cat([old, directions], dim=1))
    extended: torch.Tensor = basis.float().contiguous()
    return extended
