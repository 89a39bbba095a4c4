"""Options of the engine ``sky``."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.engines.base import EngineOptions


class Options(EngineOptions):
    """Managed jobs of SkyPilot, one for each run; ``jobs`` has no meaning here."""

    bucket: str | None = None
    """Name of the bucket that holds the run folders; needed."""
    mount: str = Field(default="/ness", pattern=r"^/.+")
    """Where the bucket is on the machines."""
    infra: str | None = None
    """Where to run, as in aws/us-east-1 or k8s; ``null``: the cheapest that has room."""
    accelerators: str | None = None
    """GPUs of a run, as in L4:1."""
    memory: str | None = None
    """Memory in GiB, as in 16+."""
    spot: bool = True
    """Use machines that may be taken away."""
    setup: list[str] = Field(default=[])
    """Lines of shell that make a machine ready; none: installs the wheel that is in the bucket."""
