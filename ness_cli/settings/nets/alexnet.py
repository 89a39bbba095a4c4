"""Three convolutions and two wide linear layers for 32 x 32 images (Serra et al. 2018)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ness_cli.settings.nets.base import NetSettings


class Options(NetSettings):
    """Options of the network ``alexnet``."""

    name: Literal["alexnet"] = "alexnet"
    """The network of the CIFAR-100 benchmark of GPM, SGP, TRGP and NESS."""
    dropout: Annotated[tuple[float, float], Field(strict=False)] = (0.2, 0.5)
    """Probability after the first two convolutions, and after the layers that follow."""
    width: float = Field(default=1.0, gt=0, le=4)
    """Factor on the number of channels and units; 1 is the published network."""
