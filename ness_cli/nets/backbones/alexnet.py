"""The AlexNet-like network of the CIFAR-100 benchmark (Serra et al. 2018, as used by GPM and NESS).

Every block is layer, norm, ReLU, dropout, and after a convolution 2 x 2 max-pooling. No biases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ness_cli.errors import SettingsError
from ness_cli.nets.dropout import Dropout
from ness_cli.nets.norm import TaskNorm
from ness_cli.nets.units import units_in_a_row
from ness_cli.settings.nets.alexnet import Options


class Alexnet(nn.Module):
    """Convolutions 64, 128, 256 and linear layers 2048, 2048 at ``width`` 1.

    Args:
        options: Dropout and width.
        image_shape: ``(c, h, w)`` of the images; 32 x 32 gives the published network.
        make_norm: Builds the normalisation layer of a given width.

    Raises:
        SettingsError: If the images are too small for three poolings.
    """

    def __init__(
        self, options: Options, image_shape: Sequence[int], make_norm: Callable[[int], TaskNorm]
    ) -> None:
        super().__init__()
        channels, *size = image_shape
        # Kernel sizes follow the image as in the original: size // 8, size // 10, 2.
        kernels = (size[0] // 8, size[0] // 10, 2)
        widths = [max(1, round(options.width * n)) for n in (64, 128, 256, 2048, 2048)]
        light, heavy = options.dropout
        for index, (kernel, out) in enumerate(zip(kernels, widths[:3], strict=True), start=1):
            size = [(side - kernel + 1) // 2 for side in size]
            if kernel < 1 or min(size) < 1:
                raise SettingsError(
                    f"net.name: images of {image_shape[1]} x {image_shape[2]} pixels are too small "
                    "for alexnet",
                    "choose net.name=mlp, or enlarge the images with data.size",
                )
            self.add_module(f"conv{index}", nn.Conv2d(channels, out, kernel, bias=False))
            self.add_module(f"norm{index}", make_norm(out))
            self.add_module(f"relu{index}", nn.ReLU())
            channels = out
        flat = channels * size[0] * size[1]
        self.fc1 = nn.Linear(flat, widths[3], bias=False)
        self.norm4 = make_norm(widths[3])
        self.relu4 = nn.ReLU()
        self.fc2 = nn.Linear(widths[3], widths[4], bias=False)
        self.norm5 = make_norm(widths[4])
        self.relu5 = nn.ReLU()
        self.light_dropout = Dropout(light)
        self.heavy_dropout = Dropout(heavy)
        self.pool = nn.MaxPool2d(2)
        self.num_features = widths[4]
        self.units = units_in_a_row(
            ("conv1", "conv2", "conv3", "fc1", "fc2"),
            widths,
            (kernels[1] ** 2, kernels[2] ** 2, size[0] * size[1], 1, 1),
            has_norms=True,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features ``[n, num_features]`` of images ``[n, c, h, w]``."""
        for index, dropout in enumerate(
            (self.light_dropout, self.light_dropout, self.heavy_dropout), start=1
        ):
            x = self.get_submodule(f"norm{index}")(self.get_submodule(f"conv{index}")(x))
            x = self.pool(dropout(self.get_submodule(f"relu{index}")(x)))
        x = self.heavy_dropout(self.relu4(self.norm4(self.fc1(x.flatten(1)))))
        features: torch.Tensor = self.heavy_dropout(self.relu5(self.norm5(self.fc2(x))))
        return features
