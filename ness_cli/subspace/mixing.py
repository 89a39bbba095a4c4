"""Room where there is none: a task mixes the directions that earlier tasks use, for itself.

Nothing may change W along directions that earlier inputs use. A task that needs the same ones has
a small matrix M of its own there, and computes with

    W_eff = W + W Q (M - I) Q^T = W B,    B = I + Q (M - I) Q^T,

where Q has K orthonormal columns. With M = I nothing is mixed. Since W_eff x = W (B x), what W
multiplies are the mixed inputs x' = B x: they are what a memory of the task has to hold, and their
covariance is B C B^T. In training a Linear layer computes W x' from them, which for a batch smaller
than the layer is wide costs a fraction of making W_eff; its gradient can be projected by the rows
x'. A convolution computes with W_eff.

Source: Apolinario, Choudhary, Roy, "CODE-CL", ICCV 2025; Lin et al., "TRGP", ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from ness_cli import numerics
from ness_cli.subspace.decomposition import for_each_spectrum
from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.spectrum import Spectrum

_CHILD = "mixing"  # of a Linear layer, while a task is being trained
_ENERGY = 0.95  # of the new inputs, in the directions that count as those they use most


def mixed(
    weight: torch.Tensor, directions: torch.Tensor, matrix: torch.Tensor, *, detaches: bool = False
) -> torch.Tensor:
    """Return W + W Q (M - I) Q^T in the shape of a weight; O(out d K).

    Args:
        weight: W, ``[out, d]`` or ``[out, c, kh, kw]``.
        directions: Q, ``[d, K]``.
        matrix: M, ``[K, K]``.
        detaches: Keep what is subtracted, W Q Q^T, out of the gradient of W.
    """
    with numerics.full_float32(weight.device):
        inside = weight.reshape(len(weight), -1) @ directions
        change = inside @ matrix - (inside.detach() if detaches else inside)
        return weight + (change @ directions.T).view(weight.shape)


class MixedWeight(nn.Module):
    """Parametrises a layer's weight: W becomes W_eff.

    Args:
        directions: Q, ``[d, K]`` float32, on the layer's device.
        matrix: M, ``[K, K]`` float32, trained.
        detaches: As in ``mixed``.
    """

    directions: torch.Tensor

    def __init__(
        self, directions: torch.Tensor, matrix: nn.Parameter, *, detaches: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("directions", directions, persistent=False)
        self.matrix = matrix
        self.detaches = detaches

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return W_eff in the shape of the weight."""
        return mixed(weight, self.directions, self.matrix, detaches=self.detaches)


class MixedInput(nn.Module):
    """Mixes what goes into a Linear layer: x becomes B x.

    Args:
        directions: Q, ``[d, K]`` float32, on the layer's device.
        matrix: M, ``[K, K]`` float32, trained.
    """

    directions: torch.Tensor

    def __init__(self, directions: torch.Tensor, matrix: nn.Parameter) -> None:
        super().__init__()
        self.register_buffer("directions", directions, persistent=False)
        self.matrix = matrix
        self._handle: RemovableHandle | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x + Q (M - I) Q^T x of inputs ``[n, ..., d]``; O(n d K)."""
        q = self.directions
        change = self.matrix - torch.eye(len(self.matrix), dtype=q.dtype, device=q.device)
        return x + ((x @ q) @ change.T) @ q.T

    def put_on(self, module: nn.Linear) -> None:
        """Mix from now on what goes into a layer."""
        module.add_module(_CHILD, self)
        self._handle = module.register_forward_pre_hook(lambda _, args: (self(args[0]),))

    def take_off(self, module: nn.Linear) -> None:
        """Let the layer take its inputs as they are."""
        assert self._handle is not None
        self._handle.remove()
        delattr(module, _CHILD)


@dataclass(frozen=True)
class Mixing:
    """What a learned task mixes in one layer.

    Attributes:
        directions: Q, ``[d, K]`` float32; d without the constant of a bias, which is not mixed.
        matrix: M, ``[K, K]`` float32.
    """

    directions: torch.Tensor
    matrix: torch.Tensor

    @torch.no_grad()
    def input_map(self, dim: int) -> torch.Tensor:
        """Return B, ``[dim, dim]`` float64: the row of a bias, where there is one, is as it is."""
        q = self.directions.double()
        b = torch.eye(dim, dtype=torch.float64)
        b[: len(q), : len(q)] += q @ (self.matrix.double() - torch.eye(q.shape[1])) @ q.T
        return b


def attach(
    layer: LayerView, directions: torch.Tensor, matrix: torch.Tensor, *, detaches: bool = False
) -> MixedWeight | MixedInput:
    """Put a mixing on a layer, on top of what parametrises it already, and return it.

    A Linear layer mixes its inputs, unless ``detaches`` asks for another gradient of its weight.
    """
    module, device = layer.module, layer.weight.device
    directions, parameter = directions.to(device), nn.Parameter(matrix.clone().to(device))
    if isinstance(module, nn.Linear) and not detaches:
        of_inputs = MixedInput(directions, parameter)
        of_inputs.put_on(module)
        return of_inputs
    of_weight = MixedWeight(directions, parameter, detaches=detaches)
    parametrize.register_parametrization(module, "weight", of_weight)
    return of_weight


def detach(layer: LayerView) -> None:
    """Take a mixing off a layer, if whoever else parametrised it has not done so."""
    module = layer.module
    child = module._modules.get(_CHILD)
    if isinstance(module, nn.Linear) and isinstance(child, MixedInput):
        child.take_off(module)
    elif layer.is_parametrised:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)


@contextmanager
def mixing(layers: Mapping[str, LayerView], mixings: Mapping[str, Mixing]) -> Iterator[None]:
    """Let layers compute, within, with the effective weights of a task.

    Args:
        layers: Layers by name; none is parametrised.
        mixings: What the task mixes, by layer.
    """
    weights = {name: layers[name].weight for name in mixings}
    before = {name: weight.data for name, weight in weights.items()}
    try:
        for name, own in mixings.items():
            q, m = (t.to(before[name].device) for t in (own.directions, own.matrix))
            with torch.no_grad():  # around the generator torch hands errors on in a deprecated way
                weights[name].data = mixed(before[name], q, m)
        yield
    finally:
        for name, weight in weights.items():
            weight.data = before[name]


@torch.no_grad()
def shared_directions(
    old: Mapping[str, torch.Tensor],
    new: Mapping[str, torch.Tensor],
    num: int,
    *,
    by: str,
    advance: Callable[[int], None],
    device: torch.device,
) -> dict[str, torch.Tensor]:
    """Return the leading directions that old and new inputs both use, for every layer.

    O(d^3) time: two decompositions, the second within what the new inputs use.

    Args:
        old: Covariances of earlier inputs, ``[d, d]`` float64, by layer.
        new: Those of the new task's, alike.
        num: K, at most so many: no more than both use.
        by: ``product``: eigenvectors of C_new^(1/2) C_old C_new^(1/2), in which both weigh alike.
            ``restricted``: those of C_old within the leading directions of the new inputs.
        advance: As of ``for_each_spectrum``.
        device: Where the model is.

    Returns:
        Q, orthonormal ``[d, K]`` float32, the most shared first.

    Raises:
        NumericalError: If C_new holds NaN or infinity, naming the layer.
    """
    used = for_each_spectrum(new, lambda _, found: _used(found, num, by), advance, device=device)
    inside = {}
    for name, (columns, scale) in used.items():
        inside[name] = scale[:, None] * (columns.T @ old[name] @ columns) * scale
        advance(0)

    def leading(name: str, found: Spectrum) -> torch.Tensor:
        columns, values = used[name][0], found.sigma.square()
        dim, width = columns.shape
        noise = dim * torch.finfo(values.dtype).eps * float(values[-1]) if width else 0.0
        kept = min(num, int((values > noise).sum()))
        shared: torch.Tensor = columns @ found.between(width - kept, width).flip(1)
        return shared.float().contiguous()

    return for_each_spectrum(inside, leading, advance, device=device)


def _used(found: Spectrum, num: int, by: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the directions that new inputs use, ``[d, u]``, and what they weigh, ``[u]``."""
    energy, dim = found.sigma.square(), len(found.sigma)
    count = int((energy > dim * torch.finfo(energy.dtype).eps * energy[-1]).sum())
    if by == "restricted":
        leading = 1 + int((energy.flip(0).cumsum(0) < _ENERGY * energy.sum()).sum())
        count = min(count, max(num, leading))
    columns = found.between(dim - count, dim)
    return columns, found.sigma[dim - count :] if by == "product" else columns.new_ones(count)
