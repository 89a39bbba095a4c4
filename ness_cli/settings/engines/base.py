"""Options that all engines of a study have."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.base import Section


class EngineOptions(Section):
    """How an engine runs the runs of a study; nothing of it is part of a run's identity."""

    jobs: int | None = Field(default=None, ge=1)
    """Runs at a time, at most; ``null``: as many as the engine has room for."""
