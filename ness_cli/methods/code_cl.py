"""CODE-CL: slow every direction by a conceptor of old inputs, and mix what old and new share.

After every task a few training images are passed through the network; the conceptor of each layer's
inputs joins that of the tasks before, C <- C or C_new, and small values are set to zero. From the
second task on

    G <- G (I - C).

Where the inputs of a new task, before its training, share more than half of what the old ones use,
K leading directions Q of (C and C_new) are mixed: W_eff = W + W Q (M - I) Q^T, with M trained and
used by that task alone.

Remembered: C per layer, by the directions it reaches; per task Q ``[d, K]`` and M ``[K, K]`` of
mixed layers.

Source: Apolinario, Choudhary, Roy, "CODE-CL: Conceptor-Based Gradient Projection for Deep Continual
Learning", ICCV 2025. As in their code M starts like the weights of a Linear layer, and in linear
layers W is detached in what is subtracted. Departures from their code: the conceptor of a task that
mixes is that of its mixed inputs, which W multiplies (theirs protects other inputs than those); a
convolution's patches are those that it computes with; no direction is mixed that one side does not
reach (theirs fills up to K with arbitrary ones, and fails where d < K); best weights and patience
go by validation, theirs by test images; what the inputs do not use is exactly open.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ness_cli import seeding
from ness_cli.methods.base_mixing import MIXING, MixingMethod
from ness_cli.methods.files import Files, MethodFile, Tensors, by_layer, with_kind
from ness_cli.methods.task import LayerRow, Task
from ness_cli.settings.methods.code_cl import Options
from ness_cli.subspace.conceptor import Conceptor, both, either, fitted, overlap
from ness_cli.subspace.decomposition import for_each_spectrum
from ness_cli.subspace.layer_inputs import chunks_of_rows, observed_inputs
from ness_cli.subspace.projected_linear import is_linear
from ness_cli.subspace.projection import Projector
from ness_cli.subspace.spectrum import Spectrum

_NARROWEST_LINEAR = 50  # no linear layer with fewer inputs is mixed
_MERE_CONSTANT = 1e-3  # what a direction has left without its constant, if it is only that
_CLOSED = 0.999  # of a step along such a direction next to nothing is left


@dataclass(frozen=True)
class _Found:
    """The conceptor of some inputs, the aperture it took, and their Gram matrix ``[d, d]``."""

    conceptor: Conceptor
    aperture: float
    gram: torch.Tensor

    def energy_left_by(self, other: Conceptor) -> float:
        """Return sum ||(I - C) x||^2 / sum ||x||^2 for a conceptor C; 0 for inputs of zeros."""
        total = float(self.gram.trace())
        energies = torch.sum(other.columns * (self.gram @ other.columns), dim=0)
        taken = float((energies * (1 - (1 - other.values).square())).sum())
        return max(0.0, 1 - taken / total) if total > 0 else 0.0


class CodeCl(MixingMethod):
    """Memory: ``memory`` (``<layer>.U``, ``[d, k]``, ``<layer>.value``, ``[k]``, float32)."""

    options: Options
    files = (
        MethodFile(
            "memory",
            made_by="build",
            needed="newest",
            read_by=("train", "build"),
            orthonormal=("U",),
        ),
        MIXING,
    )

    def start(self) -> None:
        """Begin with nothing protected."""
        super().start()
        self._conceptors: dict[str, Conceptor] = {}

    @property
    def num_mixed(self) -> int:
        """K, the most directions that a task mixes in a layer."""
        return self.options.mix

    # -- files -------------------------------------------------------------------------------

    def load_memory(self, files: Files) -> None:
        """Take in the conceptors."""
        found = files.get("memory", {})
        values = by_layer(found, "value")
        for layer, columns in by_layer(found, "U").items():
            self._conceptors[layer] = Conceptor(columns.double(), values[layer].double())

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return the files of a step: of building the conceptors."""
        if step != "build":
            return super().outputs(step)
        own = self._conceptors.items()
        columns = {name: c.columns.float().contiguous() for name, c in own}
        values = {name: c.values.float() for name, c in own}
        return {"memory": with_kind(columns, "U") | with_kind(values, "value")}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of conceptors that reach everything, and of mixing."""
        dims = [layer.dim for layer in self.layers.values()]
        return {**super().file_sizes(), "memory": sum(4 * d**2 + 4 * d for d in dims)}

    # -- training ----------------------------------------------------------------------------

    def projectors(self, task: Task) -> dict[str, Projector]:
        """Return G -> G (I - C) of every layer; the first task is free."""
        if task.is_first:
            return {}
        device = self.device
        return {
            name: Projector.off(c.columns.float().to(device), c.values.float().to(device))
            for name, c in self._conceptors.items()
        }

    def begin_task(self, task: Task) -> None:
        """Choose what to mix, then confine every layer."""
        directions = self.chosen_directions(task)
        super().begin_task(task)
        self.begin_mixing(task, directions)

    def work_of_choosing(self, task: Task) -> int:
        """Return the work of finding the conceptors of a sample."""
        return self.consolidation_work(task)

    def directions_to_mix(self, task: Task, advance: Callable[[int], None]) -> Tensors:
        """Return the leading directions that old and new inputs share, where they share much."""
        layers, found = self.layers, {}
        for name, own in self._conceptors_of(task, advance).items():
            advance(0)
            layer, old = layers[name], self._conceptors[name]
            new = own.conceptor.above(self.options.lowest)
            narrowest = _NARROWEST_LINEAR if is_linear(layer) else self.options.mix
            if layer.dim <= narrowest:
                continue
            shared = both(old, new)
            if overlap(shared, old) <= self.options.overlap:
                continue
            q = shared.columns[:, : self.options.mix]
            if layer.has_bias_column:
                # The constant of a bias is not mixed; it may have been one of the directions.
                u, s, _ = torch.linalg.svd(q[:-1], full_matrices=False)
                q = u[:, s > _MERE_CONSTANT]
            found[name] = q.float().contiguous()
        return found

    def first_matrix(self, layer: str, size: int, task: Task) -> torch.Tensor:
        """Return M as torch starts the weights of a Linear layer."""
        generator = seeding.generator(self.seed, f"mixing matrix of {layer}", task.number)
        bound = 1 / math.sqrt(size)
        return torch.empty(size, size).uniform_(-bound, bound, generator=generator)

    def detaches(self, layer: str) -> bool:
        """Return whether the layer is a linear one."""
        return is_linear(self._views[layer])

    def end_task(self, task: Task) -> None:
        """Keep what was mixed; the model is plain again."""
        self.end_mixing(task)
        super().end_task(task)

    # -- consolidation -----------------------------------------------------------------------

    def consolidation_work(self, task: Task) -> int:
        """Return the multiply-adds of summing up the sample and of decomposing the sums."""
        return self.work_of_sample(task.train, self.options.samples)

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Join the conceptors of this task's inputs to those of the tasks before.

        Raises:
            NumericalError: If a layer's inputs are not finite, naming the layer.
        """
        rows = []
        for name, own in self._conceptors_of(task, advance).items():
            old, new = self._conceptors.get(name), own.conceptor
            joined = (new if old is None else either(old, new)).above(self.options.lowest).stored()
            self._conceptors[name] = joined
            dim, num_closed = len(own.gram), int((joined.values > _CLOSED).sum())
            percent = 100 * own.energy_left_by(joined)
            rows.append(LayerRow(name, dim, dim - num_closed, own.aperture, percent, "aperture"))
            advance(0)
        return rows

    @torch.no_grad()
    def _conceptors_of(self, task: Task, advance: Callable[[int], None]) -> dict[str, _Found]:
        """Return the conceptor of every layer's inputs, from a sample."""
        layers = self.layers
        inputs: Tensors = {}
        sample = self.sample_of(task, self.options.samples, "code-cl-samples")
        with observed_inputs(layers, inputs.__setitem__):
            grams = self.grams_of(task, sample, advance)
        maps = self.input_maps(task.number)

        def fit(name: str, found: Spectrum) -> _Found:
            layer, x = layers[name], inputs[name]
            energy = found.sigma.square()
            noise = layer.dim * torch.finfo(energy.dtype).eps * energy[-1]
            moments = torch.where(energy > noise, energy, 0) / (len(x) * layer.rows_per_image(x))
            conceptor, aperture = fitted(
                found.vectors,
                moments,
                lambda: (
                    rows.cpu().double() @ maps[name].T if name in maps else rows
                    for rows in chunks_of_rows(layer, x)
                ),
                aperture=self.options.aperture,
                share=self.options.share,
            )
            return _Found(conceptor, aperture, grams[name])

        return for_each_spectrum(grams, fit, advance, device=self.device)
