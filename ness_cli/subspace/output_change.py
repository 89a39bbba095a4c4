"""What later updates of a weight do to a layer's outputs on earlier inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

_ROUNDING = 1e-5  # of the products
_LAST_BIT = 2.0**-23  # of the weights: dW is a difference of two of them


@dataclass(frozen=True)
class Change:
    """How far one update moves a layer's outputs, over some inputs.

    Attributes:
        rows: Input rows looked at.
        largest: Largest ||x^T dW||.
        rms: Root of the mean ||x^T dW||^2.
        largest_relative: Largest ||x^T dW|| / ||x^T W|| over rows with an output that is not zero.
        rms_relative: Root of sum ||x^T dW||^2 / sum ||x^T W||^2; 0 if all outputs are zero.
        excess: Largest ||x^T dW|| - bound, less what rounding explains; positive if the bound is
            broken.
        violations: Rows whose excess is positive.
    """

    rows: int
    largest: float
    rms: float
    largest_relative: float
    rms_relative: float
    excess: float
    violations: int

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


class OutputChange:
    """Sums up what several updates of one weight do, over inputs given bit by bit.

    A row of a grouped convolution is seen by the outputs of its own group only; what changes there
    is what counts.

    Args:
        weight: W, ``[out, d]``, which gave the outputs at the time.
        updates: dW by number, each ``[out, d]``.
        bounds: By number, the largest ||x^T dW|| that is claimed; the check allows for rounding, of
            ||x|| (1e-5 ||dW||_F + 2^-23 ||W||_F).
        groups: Groups of a convolution: row i is one of group i mod groups.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        updates: Mapping[int, torch.Tensor],
        bounds: Mapping[int, float],
        *,
        groups: int = 1,
    ) -> None:
        self.task_numbers: Sequence[int] = list(updates)
        self._groups = groups
        self._weight = _by_group([weight], groups)
        self._updates = _by_group(list(updates.values()), groups)
        # Sums are kept on the CPU: not every device has float64.
        norms = torch.tensor([_norm(update) for update in updates.values()], dtype=torch.float64)
        self._slack = _ROUNDING * norms + _LAST_BIT * _norm(weight)
        self._bounds = torch.tensor([bounds[n] for n in self.task_numbers], dtype=torch.float64)
        self._rows = 0
        self._squares, self._largest, self._relative = (torch.zeros_like(norms) for _ in range(3))
        self._excess = torch.full_like(norms, -torch.inf)
        self._output_squares = torch.zeros_like(norms[0])
        self._violations = torch.zeros_like(norms, dtype=torch.int64)

    @torch.no_grad()
    def add(self, rows: torch.Tensor) -> None:
        """Take in input rows ``[n, d]``, those of all groups at every position."""
        if not len(rows):
            return
        by_group = rows.view(-1, self._groups, rows.shape[1]).transpose(0, 1)
        changes = _output_lengths(by_group, self._updates)
        outputs = _output_lengths(by_group, self._weight)
        lengths = torch.linalg.vector_norm(by_group, dim=-1).reshape(-1, 1).cpu().double()
        self._rows += len(rows)
        self._squares += changes.square().sum(dim=0)
        self._output_squares += outputs.square().sum()
        self._largest = torch.maximum(self._largest, changes.amax(dim=0))
        relative = torch.where(outputs > 0, changes / outputs, 0)
        self._relative = torch.maximum(self._relative, relative.amax(dim=0))
        excess = changes - self._bounds - lengths * self._slack
        self._excess = torch.maximum(self._excess, excess.amax(dim=0))
        self._violations += (excess > 0).sum(dim=0)

    def result(self) -> dict[int, Change]:
        """Return what every update does, by task number."""
        squares, total = self._squares.tolist(), float(self._output_squares)
        return {
            task_number: Change(
                rows=self._rows,
                largest=float(self._largest[index]),
                rms=(squares[index] / max(1, self._rows)) ** 0.5,
                largest_relative=float(self._relative[index]),
                rms_relative=(squares[index] / total) ** 0.5 if total > 0 else 0.0,
                excess=float(self._excess[index]),
                violations=int(self._violations[index]),
            )
            for index, task_number in enumerate(self.task_numbers)
        }


def _by_group(matrices: Sequence[torch.Tensor], groups: int) -> torch.Tensor:
    """Return matrices ``[out, d]`` as ``[groups, number of matrices, out / groups, d]``."""
    stacked = torch.stack(list(matrices))
    return stacked.view(len(matrices), groups, -1, stacked.shape[-1]).transpose(0, 1)


def _output_lengths(rows: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Return the norms of what matrices make of rows.

    Args:
        rows: ``[groups, n, d]``.
        matrices: ``[groups, number of matrices, out / groups, d]``.

    Returns:
        ``[groups * n, number of matrices]`` float64 on the CPU.
    """
    outputs = rows @ matrices.flatten(1, 2).transpose(1, 2)
    split = outputs.view(*outputs.shape[:2], *matrices.shape[1:3])
    norms: torch.Tensor = torch.linalg.vector_norm(split, dim=-1).flatten(0, 1)
    return norms.cpu().double()


def _norm(matrix: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(matrix.cpu().double()))
