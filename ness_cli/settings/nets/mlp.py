"""Fully connected layers with ReLU."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ness_cli.settings.nets.base import NetSettings


class Options(NetSettings):
    """Options of the network ``mlp``."""

    name: Literal["mlp"] = "mlp"
    """A multi-layer perceptron."""
    hidden: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1)
    ] = (256, 256)
    """Width of every hidden layer."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping a hidden unit in training."""
    batch_norm: bool = False
    """Normalise before every ReLU."""
    biases: bool = False
    """Give the layers biases, which the published networks do not have."""
