"""What the training of one task is, as a method sees it, and what consolidating it leaves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ness_cli.data.batches import Images
from ness_cli.settings.sections import TrainSettings

HEAD = "head"
"""Name of the phase in which the head of a task learns alone."""


@dataclass(frozen=True)
class Task:
    """A task as a method sees it.

    Attributes:
        number: From 1.
        num_classes: Width of its head.
        train: Its training images.
        valid: Its validation images, if any were set aside.
        past: Training images of all earlier tasks, in order; empty unless the method's options
            declare that the step uses past data.
        past_valid: Their validation images, for training.
    """

    number: int
    num_classes: int
    train: Images
    valid: Images | None = None
    past: tuple[Images, ...] = ()
    past_valid: tuple[Images, ...] = ()

    @property
    def is_first(self) -> bool:
        """Whether this is the task before which nothing was learned."""
        return self.number == 1


@dataclass(frozen=True)
class Phase:
    """One pass of the training loop over a task; most methods have a single one.

    Attributes:
        name: Its name in ``history.jsonl``.
        num_epochs: Epochs, at most.
        train: Settings of its own, where rate or schedule are not those of the run.
    """

    name: str
    num_epochs: int
    train: TrainSettings | None = None


@dataclass(frozen=True)
class LayerRow:
    """What consolidation leaves of one layer, a row of its table.

    Attributes:
        layer: Name.
        d: Width of an input row.
        rank: Input directions the next task may learn in.
        threshold: The method's threshold: tau for NESS, energy share for GPM.
        energy_percent: Share of the inputs' energy that lies in those directions.
        rule: What put the threshold there: ``nuclear 0.001``, ``share of energy``.
    """

    layer: str
    d: int
    rank: int
    threshold: float
    energy_percent: float
    rule: str

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return asdict(self) | {"free_percent": 100 * self.rank / self.d}
