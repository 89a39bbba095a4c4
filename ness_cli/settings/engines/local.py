"""Options of the engine ``local``."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.engines.base import EngineOptions


class Options(EngineOptions):
    """Processes on this machine. Without ``jobs``: as many as its GPUs, or its cores, have room."""

    per_gpu: int = Field(default=1, ge=1)
    """Runs that share a GPU."""
    gpus: list[int] | None = None
    """The GPUs to use, by number; ``null``: all that are visible."""
