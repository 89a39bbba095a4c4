"""Scales and shifts of normalisation that tasks share train on, each pulled to where tasks left it.

After a task j the squared gradients F_j of its images' loss, against the classes that are
predicted, are taken at the scales and shifts b_j that it ends with. Later losses have

    c sum_j F_j (b - b_j)^2,

a sum over all earlier tasks that is kept as three numbers for every entry of b (``quadratics.py``).

Source: Wang, Li, Sun, Xu, "Training Networks in Null Space of Feature Covariance for Continual
Learning", CVPR 2021, which has EWC (Kirkpatrick et al., PNAS 2017) where no null space holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import nn

from ness_cli.methods.base_projected import ProjectedMethod
from ness_cli.methods.files import Files, MethodFile, Tensors
from ness_cli.methods.fisher import squared_gradients
from ness_cli.methods.quadratics import Quadratics
from ness_cli.methods.step import StepProgress
from ness_cli.methods.task import LayerRow, Task
from ness_cli.settings.methods.adam_nscl import Options
from ness_cli.subspace.covariance import PassProgress

NORMS = MethodFile("norms", made_by="build", needed="newest")


class HeldNormsMethod(ProjectedMethod):
    """Memory: ``norms``, the sums over j, where scales and shifts train on."""

    options: Options
    files: ClassVar[tuple[MethodFile, ...]] = (NORMS,)

    def start(self) -> None:
        """Begin with nothing that pulls."""
        super().start()
        self._pulls = Quadratics()

    def shared_norms(self) -> dict[str, nn.Parameter]:
        """Return the scales and shifts that train on, by name; none where they rest."""
        if self.options.norm_strength is None:
            return {}
        shared = self.model.shared_affine()
        return {name: p for name, p in self.model.named_parameters() if p in shared}

    # -- memory ------------------------------------------------------------------------------

    def reads(self, step: str) -> tuple[str, ...]:
        """Return the files of a step, with the sums if there are any."""
        norms = ("norms",) if step in ("train", "build") and self.shared_norms() else ()
        return (*super().reads(step), *norms)

    def load_memory(self, files: Files) -> None:
        """Take in what pulls."""
        super().load_memory(files)
        if "norms" in files:
            self._pulls = Quadratics(files["norms"])

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return the files of a step: of building the sums, if there are any."""
        found = super().outputs(step)
        if step == "build" and self.shared_norms():
            found["norms"] = self._pulls.tensors
        return found

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of three sums besides those of other files."""
        size = sum(3 * 4 * p.numel() for p in self.shared_norms().values())
        return {**super().file_sizes(), "norms": size}

    # -- training ----------------------------------------------------------------------------

    def trained_in(self, task_number: int) -> set[nn.Parameter]:
        """Return the parameters that train in a task, with shared scales and shifts if they do."""
        return super().trained_in(task_number) | set(self.shared_norms().values())

    def begin_task(self, task: Task) -> None:
        """Hold scales and shifts."""
        super().begin_task(task)
        self._pulls.hold(self.shared_norms())

    def penalty(self, progress: StepProgress | None) -> torch.Tensor | None:
        """Return c sum_j F_j (b - b_j)^2, from sums over j; nothing without scales and shifts."""
        value = self._pulls.value()
        return None if value is None else (self.options.norm_strength or 0.0) * value

    # -- consolidation -----------------------------------------------------------------------

    def consolidation_work(self, task: Task) -> int:
        """Return the work of consolidating, with a pass for scales and shifts if they train."""
        own = len(task.train) * self.work_per_image(task.train) if self.shared_norms() else 0
        return super().consolidation_work(task) + own

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Add what pulls scales and shifts back to where this task has them, before all else."""
        if shared := self.shared_norms():
            progress = PassProgress(advance, self.work_per_image(task.train))
            for name, square in self._mean_squares(task, shared, progress.images).items():
                self._pulls.add(name, square, shared[name])
        return super().consolidate(task, advance)

    def _mean_squares(
        self, task: Task, shared: dict[str, nn.Parameter], advance: Callable[[int], None]
    ) -> Tensors:
        """Return F: every batch counts by its size, as often as there are batches."""
        images, size = task.train, self.train.batch_size
        found = squared_gradients(
            self, images, shared, batch_size=size, of_predicted=True, advance=advance
        )
        num_batches = len(images.batch_slices(size, self.model.smallest_batch(size)))
        return {name: square * len(images) / num_batches for name, square in found.items()}
