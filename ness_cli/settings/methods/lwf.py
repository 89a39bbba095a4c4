"""Learning without forgetting (Li and Hoiem 2016): answer as before on old heads, by new images."""

from __future__ import annotations

from pydantic import Field

from ness_cli.settings.base import AFTER_TRAINING
from ness_cli.settings.methods.base import MethodOptions


class Options(MethodOptions):
    """Options of the method ``lwf``."""

    strength: float = Field(default=1.0, ge=0, json_schema_extra=AFTER_TRAINING)
    """Factor lambda of the distillation loss, the sum over all earlier tasks; the authors' value.
    Larger holds on to old answers at the cost of the new task."""
    temperature: float = Field(default=2.0, gt=0, json_schema_extra=AFTER_TRAINING)
    """What logits are divided by before they are compared, the authors' value: above 1 small
    probabilities count for more."""

    def passes(self) -> int:
        """Return two: one for the new task, one for the answers of the old heads."""
        return 2

    def notes(self) -> tuple[str, ...]:
        """Return what steps of late tasks cost."""
        return ("if tasks are normalised differently, a step of task t passes its batch t times",)
