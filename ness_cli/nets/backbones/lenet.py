"""The LeNet-like network of the CIFAR-100 superclass benchmark (as in GPM 2021), without biases.

Every convolution is followed by ReLU, local response normalisation and 3 x 3 max-pooling of stride
2; there is no batch norm. Weights start Kaiming-uniform with ReLU's gain, as published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ness_cli.nets.norm import TaskNorm
from ness_cli.nets.units import units_in_a_row
from ness_cli.settings.nets.lenet import Options


class Lenet(nn.Module):
    """Convolutions 20 and 50 of 5 x 5, linear layers 800 and 500.

    Args:
        options: None to set.
        image_shape: ``(c, h, w)`` of the images; 32 x 32 gives the published network.
        make_norm: Not used; the normalisation here has neither parameters nor statistics.
    """

    def __init__(
        self, options: Options, image_shape: Sequence[int], make_norm: Callable[[int], TaskNorm]
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.conv1 = nn.Conv2d(channels, 20, 5, padding=2, bias=False)
        self.conv2 = nn.Conv2d(20, 50, 5, padding=2, bias=False)
        # A pooling of size 3, stride 2 and padding 1 halves a side, rounding up.
        for _ in range(2):
            height, width = (height + 1) // 2, (width + 1) // 2
        self.fc1 = nn.Linear(50 * height * width, 800, bias=False)
        self.fc2 = nn.Linear(800, 500, bias=False)
        self.response_norm = nn.LocalResponseNorm(4, alpha=0.001 / 9, beta=0.75, k=1.0)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.relu1, self.relu2, self.relu3, self.relu4 = (nn.ReLU() for _ in range(4))
        self.num_features = 500
        self.units = units_in_a_row(
            ("conv1", "conv2", "fc1", "fc2"),
            (20, 50, 800, 500),
            (5 * 5, height * width, 1, 1),
            has_norms=False,
        )
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features ``[n, 500]`` of images ``[n, c, h, w]``."""
        for convolution, relu in ((self.conv1, self.relu1), (self.conv2, self.relu2)):
            x = self.pool(self._normalised(relu(convolution(x))))
        x = self.relu3(self.fc1(x.flatten(1)))
        features: torch.Tensor = self.relu4(self.fc2(x))
        return features

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        # The same numbers for images as for rows of pixels, but the pooling inside has a
        # deterministic backward pass on CUDA for the latter only.
        y: torch.Tensor = self.response_norm(x.flatten(2)).view(x.shape)
        return y
