"""What networks that are models of a library let the user set."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.nets.base import NetSettings

Argument = bool | int | float | str | list[int]


class LibraryModel(NetSettings):
    """A model of a library."""

    model: str
    """Its name in the library."""
    arguments: dict[str, Argument] = Field(default={})
    """Arguments of what builds it."""
    pretrained: str | None = None
    """Weights that task 1 starts from; random ones when absent."""
    prompts: int = Field(default=0, ge=0)
    """Learnable tokens in every attention block of a vision transformer, beside those of the image:
    what the method ``nsp2`` learns."""
