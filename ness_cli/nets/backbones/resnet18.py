"""The narrow ResNet18 of the 5-datasets and miniImageNet benchmarks (as in GPM 2021).

Four stages of two basic blocks, 3 x 3 convolutions without biases, a 1 x 1 convolution on the
shortcut where the shape changes, no max-pooling, and 2 x 2 average pooling at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ness_cli.errors import SettingsError
from ness_cli.nets.norm import TaskNorm
from ness_cli.nets.units import HEADS, Consumer, Units
from ness_cli.settings.nets.resnet18 import Options

MakeNorm = Callable[[int], TaskNorm]


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, ReLU after the first norm and after the sum."""

    def __init__(self, channels: int, out: int, stride: int, make_norm: MakeNorm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = make_norm(out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = make_norm(out)
        self.relu2 = nn.ReLU()
        self.changes_shape = stride != 1 or channels != out
        if self.changes_shape:
            self.shortcut = nn.Conv2d(channels, out, 1, stride=stride, bias=False)
            self.shortcut_norm = make_norm(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``[n, out, h / stride, w / stride]``."""
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        shortcut = self.shortcut_norm(self.shortcut(x)) if self.changes_shape else x
        summed: torch.Tensor = self.relu2(y + shortcut)
        return summed


class Resnet18(nn.Module):
    """Stages of width, 2, 4 and 8 times width; layers are ``stem``, ``stage1.0.conv1`` and so on.

    Args:
        options: Width and stride of the stem.
        image_shape: ``(c, h, w)`` of the images.
        make_norm: Builds the normalisation layer of a given width.

    Raises:
        SettingsError: If the images are too small for the strides.
    """

    def __init__(self, options: Options, image_shape: Sequence[int], make_norm: MakeNorm) -> None:
        super().__init__()
        channels, *size = image_shape
        width, stride = options.width, options.stem_stride
        self.stem = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.stem_norm = make_norm(width)
        self.stem_relu = nn.ReLU()
        channels = width
        for stage in range(4):
            out, first = width * 2**stage, 1 if stage == 0 else 2
            blocks = (Block(channels, out, first, make_norm), Block(out, out, 1, make_norm))
            self.add_module(f"stage{stage + 1}", nn.Sequential(*blocks))
            channels = out
        # Stem and the last three stages each halve a side, rounding up; the pooling rounds down.
        for halving in (stride, 2, 2, 2):
            size = [-(-side // halving) for side in size]
        height, width = (side // 2 for side in size)
        if min(height, width) < 1:
            raise SettingsError(
                f"net.name: images of {image_shape[1]} x {image_shape[2]} pixels are too small "
                "for resnet18",
                "choose net.name=mlp, or enlarge the images with data.size",
            )
        self.pool = nn.AvgPool2d(2)
        self.num_features = channels * height * width
        self.units = _units(options.width, num_positions=height * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features ``[n, num_features]`` of images ``[n, c, h, w]``."""
        x = self.stem_relu(self.stem_norm(self.stem(x)))
        for stage in range(1, 5):
            x = self.get_submodule(f"stage{stage}")(x)
        features: torch.Tensor = self.pool(x).flatten(1)
        return features


def _units(width: int, *, num_positions: int) -> tuple[Units, ...]:
    """Return, stage by stage, the units inside of its two blocks and those of its stream.

    What goes from block to block is a sum, so one unit of it is one in every block of the stage,
    and in the stem, which the first stage adds to.
    """
    found = []
    for stage in range(1, 5):
        out = width * 2 ** (stage - 1)
        found += [
            Units(
                activations=(f"{block}.relu1",),
                count=out,
                producers=(f"{block}.conv1",),
                norms=(f"{block}.norm1",),
                consumers=(Consumer(f"{block}.conv2", 3 * 3),),
            )
            for block in (f"stage{stage}.0", f"stage{stage}.1")
        ]
        found.append(_residual_units(stage, out, num_positions))
    return tuple(found)


def _residual_units(stage: int, count: int, num_positions: int) -> Units:
    """Return the units that the blocks of a stage add to."""
    first, second, following = f"stage{stage}.0", f"stage{stage}.1", f"stage{stage + 1}.0"
    producers, norms = [f"{first}.conv2", f"{second}.conv2"], [f"{first}.norm2", f"{second}.norm2"]
    activations, readers = [f"{first}.relu2", f"{second}.relu2"], [f"{second}.conv1"]
    if stage == 1:
        activations, readers = ["stem_relu", *activations], [f"{first}.conv1", *readers]
        producers, norms = ["stem", *producers], ["stem_norm", *norms]
    else:
        producers, norms = [f"{first}.shortcut", *producers], [f"{first}.shortcut_norm", *norms]
    consumers = [Consumer(reader, 3 * 3) for reader in readers]
    if stage == 4:
        consumers.append(Consumer(HEADS, num_positions))
    else:
        consumers += [Consumer(f"{following}.conv1", 3 * 3), Consumer(f"{following}.shortcut")]
    return Units(tuple(activations), count, tuple(producers), tuple(norms), tuple(consumers))
