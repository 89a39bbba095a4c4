"""Options of the engine ``ray``."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.engines.base import EngineOptions


class Options(EngineOptions):
    """Tasks of Ray, on a cluster that is there or one started on this machine."""

    address: str | None = None
    """A cluster, as ray://head:10001 or auto; ``null``: RAY_ADDRESS, or one that is started here
    and ends with the study."""
    num_cpus: float | None = Field(default=None, ge=0)
    """CPUs that a run takes up; ``null``: the study's threads."""
    num_gpus: float = Field(default=0, ge=0)
    """GPUs of a run; 0.25 lets four share one."""
    max_retries: int = Field(default=20, ge=0)
    """How often a run goes on elsewhere when Ray has lost its node or its worker."""
