"""Options of the engine ``slurm``."""

from __future__ import annotations

from pydantic import Field, model_validator
from typing_extensions import Self

from ness_cli.settings.engines.base import EngineOptions

_EARLIER_SECONDS = 60
"""How much before its time Slurm may send a signal."""


class Options(EngineOptions):
    """A job array of Slurm. What is ``null`` is left to the cluster's defaults."""

    partition: str | None = None
    """Where to queue."""
    account: str | None = None
    """Who is charged."""
    qos: str | None = None
    """Quality of service."""
    time: str | None = Field(default=None, pattern=r"^(\d+-)?\d+(:\d+){0,2}$")
    """Time limit of one start, as in '12:00:00'; a run that needs more is queued again."""
    memory: str | None = Field(default=None, pattern=r"^\d+[KMGT]?$")
    """Memory of a run, as in 8G."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of a run."""
    lead_seconds: int = Field(default=120, ge=1, le=65535)
    """How long before the time limit a run is told to save: longer than a step and a checkpoint
    take."""
    array_size: int = Field(default=1000, ge=1)
    """Runs in one array, at most: less than the cluster's MaxArraySize."""
    options: list[str] = Field(default=[])
    """More options of sbatch, as in ['--constraint=a100', '--exclude=node7']."""
    before: list[str] = Field(default=[])
    """Lines of shell before the command, as in ['module load cuda']."""
    wait: bool = False
    """Wait for the jobs, and queue what comes after them; otherwise ``ness study run`` ends when
    they are queued."""

    @model_validator(mode="after")
    def _leaves_time_to_compute(self) -> Self:
        limit = 0 if self.time is None else _seconds(self.time)
        if 0 < limit <= self.lead_seconds + _EARLIER_SECONDS:  # of 0 Slurm makes no limit
            raise ValueError(
                f"time: {self.time} is over when a run is told to save, {self.lead_seconds} seconds"
                f" (lead_seconds) before the limit or {_EARLIER_SECONDS} earlier"
            )
        return self


def _seconds(time: str) -> int:
    """Return the seconds of a time as sbatch reads it: 90 (minutes), 1:30:00, 1-12 (days-hours)."""
    days, is_by_days, clock = time.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if not is_by_days and len(parts) < 3:
        parts = [0, *parts]
    hours, minutes, seconds = (*parts, 0, 0)[:3]
    return 86400 * int(days or 0) + 3600 * hours + 60 * minutes + seconds
