"""Options of the engine ``slurm``."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.engines.base import EngineOptions


class Options(EngineOptions):
    """A job array of Slurm. What is ``null`` is left to the cluster's defaults."""

    partition: str | None = None
    """Where to queue."""
    account: str | None = None
    """Who is charged."""
    qos: str | None = None
    """Quality of service."""
    time: str | None = Field(default=None, pattern=r"^[\d:-]+$")
    """Time limit of one start, as in '12:00:00'; a run that needs more is queued again."""
    memory: str | None = Field(default=None, pattern=r"^\d+[KMGT]?$")
    """Memory of a run, as in 8G."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of a run."""
    lead_seconds: int = Field(default=120, ge=1, le=65535)
    """How long before the time limit a run is told to save: longer than a step and a checkpoint
    take."""
    options: list[str] = Field(default=[])
    """More options of sbatch, as in ['--constraint=a100', '--exclude=node7']."""
    before: list[str] = Field(default=[])
    """Lines of shell before the command, as in ['module load cuda']."""
    wait: bool = False
    """Wait for the jobs, and queue what comes after them; otherwise ``ness study run`` ends when
    they are queued."""
