"""Two convolutions and two linear layers with local response normalisation, for small images."""

from __future__ import annotations

from typing import Literal

from ness_cli.settings.nets.base import NetSettings


class Options(NetSettings):
    """Options of the network ``lenet``."""

    name: Literal["lenet"] = "lenet"
    """The network of the CIFAR-100 superclass benchmark of GPM, SGP and TRGP."""
