"""What every network lets the user set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ness_cli.settings.base import Section


class NetSettings(Section):
    """A network: a backbone and its heads."""

    name: str
    """A name that ``ness networks`` lists."""
    heads: Literal["per-task", "shared"] = "per-task"
    """One output layer per task, or one for all; a shared one is protected like every layer."""
    adapt: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("*",)
    """Layers that tasks after the first train in, by name, ``*`` allowed. Methods that protect
    directions freeze every other parameter after the first task."""
    bias: Literal["frozen", "augmented"] = "frozen"
    """Biases after the first task: ``frozen``, or trained as part of the layer's matrix, whose
    input rows then end in a constant 1."""
