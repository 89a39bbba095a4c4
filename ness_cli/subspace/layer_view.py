"""The only code that knows a Linear from a Conv2d.

Everything else sees a layer as a matrix: its weight ``[out, d]``, its input rows ``[n, d]``. For a
convolution a row is an unfolded patch, in the order (channel, row, column) of the flattened kernel,
so that ``rows(x) @ matrix().T`` is the layer's output at every position.

A bias can be part of the matrix, which is ``[W | b]`` then, and every row ends in a constant 1.

While a method has a parametrisation f on a layer (``torch.nn.utils.parametrize``), the layer
computes with f(W), and everything here is about W: what is trained, confined and stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from ness_cli.errors import SettingsError, did_you_mean


class LayerView:
    """A Linear or Conv2d layer as a matrix.

    The groups of a grouped convolution share one matrix ``[out, d]`` with d the width of one
    group's patch, and one set of rows: the patches of all groups. A subspace that all of them
    hardly use is one that each of them hardly uses, so what protects the rows protects every
    group; the groups have less room than subspaces of their own would leave them.

    Args:
        name: Name in tables and files.
        module: The layer.
        augment_bias: Make the bias, if there is one, a column of the matrix. Otherwise it is no
            part of the view.
    """

    def __init__(
        self, name: str, module: nn.Linear | nn.Conv2d, *, augment_bias: bool = False
    ) -> None:
        self.name = name
        self.module = module
        self.has_bias_column = augment_bias and _original(module, "bias") is not None

    def _parameter(self, name: str) -> nn.Parameter:
        parameter = _original(self.module, name)
        assert isinstance(parameter, nn.Parameter)
        return parameter

    @property
    def weight(self) -> nn.Parameter:
        """The trainable weight, ``[out, d]`` or ``[out, c, kh, kw]``."""
        return self._parameter("weight")

    @property
    def is_parametrised(self) -> bool:
        """Whether the layer computes with a function of its weight in place of the weight."""
        return parametrize.is_parametrized(self.module, "weight")

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that make up the matrix, by their names in the module."""
        found = {"weight": self.weight}
        if self.has_bias_column:
            found["bias"] = self._parameter("bias")
        return found

    @property
    def out(self) -> int:
        """Number of outputs (channels)."""
        return len(self.weight)

    @property
    def groups(self) -> int:
        """Groups of a convolution, each with its own rows and outputs; 1 for any other layer."""
        return self.module.groups if isinstance(self.module, nn.Conv2d) else 1

    @property
    def dim(self) -> int:
        """Width ``d`` of an input row."""
        return self.weight[0].numel() + self.has_bias_column

    def matrix(self) -> torch.Tensor:
        """Return the matrix ``[out, d]``; it shares the weight's memory if there is no bias."""
        return join({name: p.detach() for name, p in self.parameters.items()})

    @torch.no_grad()
    def set_matrix(self, matrix: torch.Tensor) -> None:
        """Give the parameters the values of a matrix ``[out, d]``."""
        parameters = self.parameters
        for name, part in split(matrix, parameters).items():
            parameters[name].copy_(part)

    def gradient(self) -> torch.Tensor:
        """Return the gradient as ``[out, d]``; it may share memory with the parameters'."""
        if not self.has_bias_column:  # at every step, of every layer
            gradient = self.weight.grad
            assert gradient is not None
            return gradient.reshape(len(gradient), -1)
        gradients = {}
        for name, parameter in self.parameters.items():
            assert parameter.grad is not None
            gradients[name] = parameter.grad
        return join(gradients)

    def set_gradient(self, gradient: torch.Tensor) -> None:
        """Give the parameters the gradient ``[out, d]``."""
        if not self.has_bias_column:
            weight = self.weight
            if weight.grad is None or weight.grad.data_ptr() != gradient.data_ptr():
                weight.grad = gradient.view(weight.shape)
            return
        parameters = self.parameters
        for name, part in split(gradient, parameters).items():
            parameters[name].grad = part

    def rows(self, x: torch.Tensor, *, every: int = 1) -> torch.Tensor:
        """Return the rows that the weight matrix multiplies.

        Args:
            x: Input of the layer, ``[n, ..., d]`` for Linear, ``[n, c, h, w]`` for Conv2d.
            every: Of the positions of a convolution's kernel, take every such one, in both
                directions.

        Returns:
            ``[number of rows, d]``, in the dtype of ``x``; for a grouped convolution those of its
            groups one after another at every position: row i is one of group i mod groups.
        """
        module, width = self.module, self.dim - self.has_bias_column
        if isinstance(module, nn.Linear):
            found = x.reshape(-1, width)
        else:
            x, padding = self._padded(x)
            stride = tuple(every * step for step in module.stride)
            patches = functional.unfold(x, module.kernel_size, module.dilation, padding, stride)
            found = patches.transpose(1, 2).reshape(-1, width)
        if self.has_bias_column:
            found = functional.pad(found, (0, 1), value=1.0)
        return found

    def _padded(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
        """Return the input with any padding that is not plain zeros, and the zeros left to add."""
        module = self.module
        assert isinstance(module, nn.Conv2d)
        if module.padding_mode == "zeros" and isinstance(module.padding, tuple):
            return x, module.padding
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        return functional.pad(x, self._margins(), mode=mode), (0, 0)

    def _margins(self) -> list[int]:
        """Return the padding of a convolution: left, right, above, below."""
        # torch keeps it in this form whether it was given in pixels or as "same".
        margins: list[int] = self.module._reversed_padding_repeated_twice  # type: ignore[assignment]
        return margins

    def rows_per_image(self, x: torch.Tensor) -> int:
        """Return how many rows one image of the input ``x`` gives, without making them."""
        module = self.module
        if isinstance(module, nn.Linear):
            return max(1, x[:1].numel() // (self.dim - self.has_bias_column))
        left, right, above, below = self._margins()
        positions = self.groups
        for axis, margin in enumerate((above + below, left + right)):
            span = module.dilation[axis] * (module.kernel_size[axis] - 1) + 1
            positions *= (x.shape[2 + axis] + margin - span) // module.stride[axis] + 1
        return positions


def _original(module: nn.Module, name: str) -> object:
    """Return a parameter, or None, without whatever parametrisation is on it."""
    if parametrize.is_parametrized(module, name):
        of_name: nn.Module = module.parametrizations[name]  # type: ignore[index,assignment]
        return of_name.original
    return getattr(module, name)


def join(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the matrix ``[out, d]`` of a weight, and of a bias if there is one."""
    weight = parts["weight"]
    matrix = weight.reshape(len(weight), -1)
    return torch.cat([matrix, parts["bias"][:, None]], dim=1) if "bias" in parts else matrix


def split(
    matrix: torch.Tensor, like: dict[str, nn.Parameter] | dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return a matrix ``[out, d]`` as weight, and bias if there is one, in their shapes."""
    shape = like["weight"].shape
    if "bias" not in like:
        return {"weight": matrix.view(shape)}
    return {"weight": matrix[:, :-1].reshape(shape).contiguous(), "bias": matrix[:, -1].clone()}


def adapted_layers(
    backbone: nn.Module,
    shared_head: nn.Linear | None,
    *,
    patterns: Sequence[str] = ("*",),
    augment_bias: bool = False,
) -> dict[str, LayerView]:
    """Return the Linear and Conv2d layers of the backbone that tasks after the first train in.

    Args:
        backbone: The network without its heads.
        shared_head: A head that all tasks use; it is adapted like every layer.
        patterns: Which layers, as names with ``*``.
        augment_bias: Make biases part of the matrices.

    Returns:
        Views by name, in module order.

    Raises:
        SettingsError: If a pattern matches no layer.
    """
    found = {
        name: module
        for name, module in backbone.named_modules()
        # A parametrisation may be made of layers itself; they are no layers of the network.
        if isinstance(module, nn.Linear | nn.Conv2d) and "parametrizations" not in name.split(".")
    }
    refuse_unmatched("net.adapt", patterns, found)
    layers = {
        name: LayerView(name, module, augment_bias=augment_bias)
        for name, module in found.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    if shared_head is not None:
        layers["heads.shared"] = LayerView("heads.shared", shared_head)
    return layers


def refuse_unmatched(setting: str, patterns: Iterable[str], layers: Iterable[str]) -> None:
    """Refuse patterns for layers that there are none of.

    Args:
        setting: Whose patterns they are: ``net.adapt``.
        patterns: Names with ``*``.
        layers: The names that there are.

    Raises:
        SettingsError: Naming the first pattern that matches no layer.
    """
    names = list(layers)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SettingsError(
                f"{setting}: no layer matches {pattern!r}{did_you_mean(pattern, names)}",
                f"the layers are {', '.join(names)}",
            )
