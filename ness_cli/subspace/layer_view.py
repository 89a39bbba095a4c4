"""The only code that knows a Linear from a Conv2d.

Everything else sees a layer as a matrix: its weight ``[out, d]``, its input rows ``[n, d]``. For a
convolution a row is an unfolded patch, in the order (channel, row, column) of the flattened kernel,
so that ``rows(x) @ matrix().T`` is the layer's output at every position.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ness_cli.errors import SettingsError


class LayerView:
    """A Linear or Conv2d layer as a matrix.

    Args:
        name: Name in tables and files.
        module: The layer.

    Raises:
        SettingsError: For a grouped convolution, or one that does not pad with zeros.
    """

    def __init__(self, name: str, module: nn.Linear | nn.Conv2d) -> None:
        self.name = name
        self.module = module
        if isinstance(module, nn.Conv2d):
            if module.groups != 1:
                raise SettingsError(
                    f"layer {name}: grouped convolutions ({module.groups} groups) are not supported"
                )
            if module.padding_mode != "zeros" or isinstance(module.padding, str):
                raise SettingsError(
                    f"layer {name}: padding {module.padding!r} in mode {module.padding_mode!r} is "
                    "not supported",
                    "use zero padding of a given number of pixels",
                )

    @property
    def weight(self) -> nn.Parameter:
        """The trainable weight, ``[out, d]`` or ``[out, c, kh, kw]``."""
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def out(self) -> int:
        """Number of outputs (channels)."""
        return int(self.module.weight.shape[0])

    @property
    def dim(self) -> int:
        """Width ``d`` of an input row."""
        return int(self.module.weight[0].numel())

    def matrix(self) -> torch.Tensor:
        """Return the weight as ``[out, d]``, sharing its memory."""
        return self.weight.detach().view(self.out, self.dim)

    def gradient(self) -> torch.Tensor:
        """Return the weight's gradient as ``[out, d]``, sharing its memory when contiguous."""
        gradient = self.weight.grad
        assert gradient is not None
        return gradient.reshape(self.out, self.dim)

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows that the weight matrix multiplies.

        Args:
            x: Input of the layer, ``[n, ..., d]`` for Linear, ``[n, c, h, w]`` for Conv2d.

        Returns:
            ``[number of rows, d]``, in the dtype of ``x``.
        """
        module = self.module
        if isinstance(module, nn.Linear):
            return x.reshape(-1, self.dim)
        assert isinstance(module.padding, tuple)
        patches = functional.unfold(
            x, module.kernel_size, module.dilation, module.padding, module.stride
        )
        return patches.transpose(1, 2).reshape(-1, self.dim)

    def rows_per_image(self, x: torch.Tensor) -> int:
        """Return how many rows one image of the input ``x`` gives, without making them."""
        module = self.module
        if isinstance(module, nn.Linear):
            return max(1, x[:1].numel() // self.dim)
        positions = 1
        assert isinstance(module.padding, tuple)
        for axis in range(2):
            span = module.dilation[axis] * (module.kernel_size[axis] - 1) + 1
            free = x.shape[2 + axis] + 2 * int(module.padding[axis]) - span
            positions *= free // module.stride[axis] + 1
        return positions


def adapted_layers(backbone: nn.Module, shared_head: nn.Linear | None) -> dict[str, LayerView]:
    """Return every Linear and Conv2d of the backbone, by name, in module order.

    Args:
        backbone: The network without its heads.
        shared_head: A head that all tasks use; it is adapted like every layer.

    Raises:
        SettingsError: If a layer is of a kind that cannot be adapted; the message names it.
    """
    layers = {
        name: LayerView(name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    if shared_head is not None:
        layers["heads.shared"] = LayerView("heads.shared", shared_head)
    return layers
