"""A narrow residual network of eight basic blocks (He et al. 2016)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ness_cli.settings.nets.base import NetSettings


class Options(NetSettings):
    """Options of the network ``resnet18``."""

    name: Literal["resnet18"] = "resnet18"
    """The network of the 5-datasets and miniImageNet benchmarks of GPM, SGP, TRGP and NESS."""
    width: int = Field(default=20, ge=1)
    """Channels of the first stage; every further stage has twice as many."""
    stem_stride: Literal[1, 2] = 1
    """Stride of the first convolution: 1 for images of 32 pixels, 2 for 84."""
