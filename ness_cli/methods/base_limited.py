"""Updates held to a limit on what they do to earlier tasks' outputs: a budget, a promise.

The limits themselves are in ``subspace/limits.py``; here is when they are made, what a budget that
chooses itself remembers, and what is recorded of the updates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from ness_cli.data.batches import Images
from ness_cli.methods.base_covariance import CovarianceMethod
from ness_cli.methods.files import Files, MethodFile, Tensors
from ness_cli.methods.task import Task
from ness_cli.settings.methods.ness import Options
from ness_cli.subspace.allowance import allowance, smallest_sufficient
from ness_cli.subspace.budget import LayerBudget
from ness_cli.subspace.limits import LayerLimits, directions_of


class LimitedMethod(CovarianceMethod):
    """With ``budget=auto`` also ``spent``: a float64 number a layer, see ``allowance.py``."""

    options: Options
    files = (
        *CovarianceMethod.files,
        MethodFile("spent", made_by="train", needed="newest"),
    )

    def start(self) -> None:
        """Begin with nothing limited, and nothing spent."""
        super().start()
        self._limits: dict[str, LayerLimits] = {}
        self._spent: dict[str, float] = {}
        self._changes: dict[str, dict[str, float]] = {}

    @property
    def has_budget(self) -> bool:
        """Whether updates are held to a budget."""
        return self.options.budget is not None

    @property
    def chooses_budget(self) -> bool:
        """Whether the budget follows from what updates so far have used."""
        return self.options.budget == "auto"

    @property
    def keeps_groups_apart(self) -> bool:
        """Whether groups have covariances of their own, as a budget needs them."""
        return self.has_budget

    # -- memory ------------------------------------------------------------------------------

    def reads(self, step: str) -> tuple[str, ...]:
        """Return the files of a step; a budget that chooses itself needs what was spent."""
        spent = ("spent",) if step == "train" and self.chooses_budget else ()
        return (*super().reads(step), *spent)

    def load_memory(self, files: Files) -> None:
        """Take in covariances and bases, and what updates have used of their budgets."""
        super().load_memory(files)
        for layer, spent in files.get("spent", {}).items():
            self._spent[layer] = float(spent)

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return the files of a step: of training what updates have used of their budgets."""
        found = super().outputs(step)
        if step == "train" and self.chooses_budget:
            found["spent"] = {
                name: torch.tensor(self._spent.get(name, 0.0), dtype=torch.float64)
                for name in self.layers
            }
        return found

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of the numbers spent besides those of covariances and bases."""
        spent = 8 * len(self.layers) if self.chooses_budget else 0
        return {**super().file_sizes(), "spent": spent}

    def allowed_rho(self, layer: str) -> float | None:
        """Return the budget of a layer, if there is one that does not choose itself."""
        has_own = self.has_budget and not self.chooses_budget
        return self.options.budget_of(layer) if has_own else None

    # -- training ----------------------------------------------------------------------------

    def begin_limits(self, task: Task) -> None:
        """Set what the update of every layer is held to; nothing in the first task."""
        earlier = task.number - 1
        self._changes = {}
        self._limits = {name: self.limits_of(name, earlier) for name in self._bases if earlier}

    def limits_of(self, layer: str, num_earlier: int) -> LayerLimits:
        """Return what the update of a layer is held to."""
        basis, options = self._bases[layer], self.options
        allowed, budget = options.max_output_change, None
        norm = math.inf if allowed is None or basis.tau == 0 else math.sqrt(allowed) / basis.tau
        if self.has_budget:
            matrix, c = self._views[layer].matrix(), self._covariances[layer]
            directions = directions_of(basis, c, matrix.device)
            over = num_earlier if options.budget_over == "task" else 1
            b = options.budget_of(layer)
            if self.chooses_budget:
                b = allowance(self._spent.get(layer, 0.0))
            budget = LayerBudget.of(b, directions, c, matrix, over)
        return LayerLimits(basis, budget, norm)

    @torch.no_grad()
    def tighten(
        self, learned: Mapping[str, tuple[torch.Tensor, torch.Tensor]], images: Images
    ) -> None:
        """Leave every layer the part of its budget that validation images say the update needs."""

        def losses(fraction: float) -> torch.Tensor:
            for name, (previous, v) in learned.items():
                limits = self._limits[name].tightened(fraction)
                self._views[name].set_matrix(limits.basis.recompose(previous, limits.within(v)))
            with self.task_view(images.task) as model:
                batches = [images.batch(where) for where in self.batch_slices(images)]
                return torch.cat(
                    [functional.cross_entropy(model(b.x), b.y, reduction="none") for b in batches]
                )

        needed = smallest_sufficient(losses)
        self._limits = {name: own.tightened(needed) for name, own in self._limits.items()}

    def note_change(self, name: str, budget: LayerBudget, matrix: torch.Tensor) -> None:
        """Note what the update of a layer, whose matrix is ``[out, d]``, does to old outputs."""
        rho = budget.rho(matrix)
        self._changes[name] = {"rho": rho, "budget": budget.limit}
        self._spent[name] = self._spent.get(name, 0.0) + budget.num_tasks * rho**2

    def measured(self) -> dict[str, Any]:
        """Return, with a budget, rho of every layer, and the budget that it was held to."""
        changes = {"output_change": self._changes} if self._changes else {}
        return super().measured() | changes
