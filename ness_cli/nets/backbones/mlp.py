"""Multi-layer perceptron: linear, optional norm, ReLU, dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ness_cli.nets.dropout import Dropout
from ness_cli.nets.norm import TaskNorm
from ness_cli.nets.units import units_in_a_row
from ness_cli.settings.nets.mlp import Options


class Mlp(nn.Module):
    """Fully connected backbone; layers are named ``fc1``, ``fc2``, ...

    Args:
        options: Widths, dropout, normalisation, biases.
        image_shape: ``(c, h, w)`` of the images.
        make_norm: Builds the normalisation layer of a given width.
    """

    def __init__(
        self, options: Options, image_shape: Sequence[int], make_norm: Callable[[int], TaskNorm]
    ) -> None:
        super().__init__()
        width = int(torch.Size(image_shape).numel())
        self.depth = len(options.hidden)
        for index, hidden in enumerate(options.hidden, start=1):
            self.add_module(f"fc{index}", nn.Linear(width, hidden, bias=options.biases))
            if options.batch_norm:
                self.add_module(f"norm{index}", make_norm(hidden))
            self.add_module(f"relu{index}", nn.ReLU())
            width = hidden
        self.dropout = Dropout(options.dropout)
        self.num_features = width
        names = [f"fc{index}" for index in range(1, self.depth + 1)]
        self.units = units_in_a_row(
            names, options.hidden, [1] * self.depth, has_norms=options.batch_norm
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features ``[n, num_features]`` of images ``[n, c, h, w]``."""
        x = x.flatten(1)
        for index in range(1, self.depth + 1):
            x = self.get_submodule(f"fc{index}")(x)
            if hasattr(self, f"norm{index}"):
                x = self.get_submodule(f"norm{index}")(x)
            x = self.dropout(self.get_submodule(f"relu{index}")(x))
        return x
