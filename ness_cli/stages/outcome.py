"""What a step did, for whoever called it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ness_cli.run_state import StepState


@dataclass(frozen=True)
class Outcome:
    """What a step did.

    Attributes:
        task: Number of the task, ``None`` if there was none left.
        record: The content of the step's record file.
        was_skipped: Whether it was done already.
        note: A line for the user, or empty.
    """

    task: int | None
    record: Mapping[str, Any] = field(default_factory=dict)
    was_skipped: bool = False
    note: str = ""

    @classmethod
    def skipped(cls, step: StepState | None, nothing_left: str) -> Outcome:
        """Return the outcome of a step that is done, or of none left to do."""
        if step is None:
            return cls(None, {}, True, f"nothing to do: {nothing_left}")
        note = f"task {step.task}: already done, nothing changed (--force does it again)"
        return cls(step.task, step.record, True, note)
