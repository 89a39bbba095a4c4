"""The accuracy matrix of a run and the field's summaries of it. All values are percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

Row = tuple[float | None, ...]


@dataclass(frozen=True)
class AccuracyMatrix:
    """A[t][i]: accuracy on task i after learning task t, percent.

    Attributes:
        rows: Row t holds the accuracies on tasks 1..t; ``None`` where task t was not evaluated,
            inside a row where the images of an earlier task were gone.
    """

    rows: tuple[Row | None, ...]

    @classmethod
    def of(cls, rows: Sequence[Sequence[float | None] | None]) -> AccuracyMatrix:
        """Return the matrix with the given rows."""
        return cls(tuple(None if row is None else tuple(row) for row in rows))

    @cached_property
    def last(self) -> int:
        """Number of the last task with a row, from 1; 0 if there is none."""
        return max((t for t, row in enumerate(self.rows, start=1) if row is not None), default=0)

    @cached_property
    def final(self) -> Row:
        """The last row."""
        return self.rows[self.last - 1] or () if self.last else ()

    @cached_property
    def scored(self) -> tuple[int, ...]:
        """Numbers of the tasks that the last row has accuracies of: ACC, BWT are over these."""
        return tuple(i for i, value in enumerate(self.final, start=1) if value is not None)

    @cached_property
    def learned(self) -> tuple[float | None, ...]:
        """Accuracy on each task right after it was learned, up to the last row."""
        return tuple(None if row is None else row[-1] for row in self.rows[: self.last])

    @property
    def acc(self) -> float | None:
        """Mean of the last row (Lopez-Paz and Ranzato 2017)."""
        return mean([self.final[i - 1] for i in self.scored])

    @property
    def bwt(self) -> float | None:
        """Backward transfer: mean over i < T of A[T][i] - A[i][i] (Lopez-Paz and Ranzato 2017).

        ``None`` for a single task, or while a diagonal entry has not been measured.
        """
        return mean([self.changes[i - 1] for i in self.scored if i < self.last])

    @cached_property
    def changes(self) -> tuple[float | None, ...]:
        """A[T][i] - A[i][i] for every task of the last row."""
        pairs = zip(self.final, self.learned, strict=True)
        return tuple(
            None if learned is None or final is None else final - learned
            for final, learned in pairs
        )

    @property
    def forgetting(self) -> float | None:
        """Mean over i < T of the best earlier accuracy minus the last (Chaudhry et al. 2018).

        ``None`` for a single task, or while a row is missing that might hold the best.
        """
        falls: list[float | None] = []
        for i, final in enumerate(self.final[:-1]):
            if final is None:
                continue
            earlier = self.rows[i : self.last - 1]
            found = [row[i] for row in earlier if row is not None]
            known = [value for value in found if value is not None]
            falls.append(max(known) - final if len(known) == len(earlier) else None)
        return mean(falls)

    @property
    def forgetting_diagonal(self) -> float | None:
        """Mean over i < T of A[i][i] - A[T][i]: BWT with its sign turned."""
        return None if self.bwt is None else 0.0 - self.bwt

    @property
    def learning_accuracy(self) -> float | None:
        """Mean of the diagonal (Riemer et al. 2019)."""
        return mean(self.learned)

    def summary(self) -> dict[str, float | None]:
        """Return the four summaries by name."""
        return {
            "acc": self.acc,
            "bwt": self.bwt,
            "forgetting": self.forgetting,
            "learning_accuracy": self.learning_accuracy,
        }

    def as_json(self) -> list[list[float | None]]:
        """Return a square list of rows, ``None`` where nothing was measured."""
        size = len(self.rows)
        return [[*(row or ()), *[None] * (size - len(row or ()))] for row in self.rows]


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; ``None`` of nothing, or where a value is not known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def total(values: Sequence[float | None]) -> float | None:
    """Return the sum of what is known; ``None`` where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
