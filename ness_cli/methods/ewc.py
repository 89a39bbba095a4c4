"""EWC: pull every weight back to where it was, by how much it mattered to earlier tasks.

After a task the diagonal F of the Fisher information is estimated from squared gradients of its
training images. From the second task on the loss, in training and in validation, is

    cross-entropy + (lambda / 2) sum F (theta - theta*)^2,

theta* the weights after the task before. Every parameter that tasks share is in the sum.

Remembered: F, as large as the network; theta* is the model of the task before.

Source: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, as
run by Serra et al., ICML 2018. Departures from their code: gradients are taken in evaluation mode,
since dropout's noise adds to their squares; a smaller last batch is weighted by its own size; heads
and scales of single tasks, which no other task trains, are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ness_cli import seeding
from ness_cli.errors import SettingsError
from ness_cli.methods.base import Method
from ness_cli.methods.files import Files, MethodFile, Tensors
from ness_cli.methods.fisher import squared_gradients
from ness_cli.methods.step import StepProgress
from ness_cli.methods.task import LayerRow, Task
from ness_cli.settings.methods.ewc import Options


class Ewc(Method):
    """Memory: ``fisher``, a tensor of its shape for every parameter that tasks share, float32."""

    options: Options
    files = (MethodFile("fisher", made_by="build", needed="newest", read_by=("train", "build")),)

    def start(self) -> None:
        """Begin with nothing that mattered."""
        self._fisher: Tensors = {}
        self._held: list[tuple[nn.Parameter, torch.Tensor, torch.Tensor]] = []

    def check_options(self) -> None:
        """Refuse to square gradients of single images that are normalised by themselves.

        Raises:
            SettingsError: Naming the option.
        """
        super().check_options()
        for key in ("fisher_batch", "fisher_samples"):
            if self.model.statistics == "batch" and getattr(self.options, key) == 1:
                raise SettingsError(
                    f"methods.ewc.{key}: a batch of one image, normalised by itself, says nothing"
                    " about it",
                    f"set methods.ewc.{key} to 2 or more, or norm.statistics=task",
                )

    def load_memory(self, files: Files) -> None:
        """Take in what mattered to earlier tasks."""
        self._fisher = dict(files.get("fisher", {}))

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of building, what mattered to the tasks so far."""
        return {"fisher": self._fisher} if step == "build" else {}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of a float32 number for every shared parameter."""
        return {"fisher": sum(4 * p.numel() for p in self.shared().values())}

    # -- training ----------------------------------------------------------------------------

    def begin_task(self, task: Task) -> None:
        """Note where the weights are."""
        super().begin_task(task)
        shared = self.shared()
        # Looked up once: the penalty is part of every step.
        self._held = [
            (shared[name], f.to(shared[name].device), shared[name].detach().clone())
            for name, f in self._fisher.items()
        ]

    def penalty(self, progress: StepProgress | None) -> torch.Tensor | None:
        """Return (lambda / 2) sum F (theta - theta*)^2; nothing in the first task."""
        if not self._held:
            return None
        terms = [(f * (theta - anchor).square()).sum() for theta, f, anchor in self._held]
        return self.options.strength / 2 * torch.stack(terms).sum()

    def end_task(self, task: Task) -> None:
        """Forget where the weights were."""
        self._held = []

    # -- consolidation -----------------------------------------------------------------------

    def consolidation_work(self, task: Task) -> int:
        """Return the number of images whose gradients are taken."""
        return min(self.options.fisher_samples or len(task.train), len(task.train))

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Estimate what mattered to this task, and join it with what mattered before."""
        new = self._information(task, advance)
        old = self._fisher
        if old:
            keep, add = self._merge_factors(task.number)
            new = {
                name: keep * old[name].to(f.device, f.dtype) + add * f for name, f in new.items()
            }
        self._fisher = {name: f.float().cpu() for name, f in new.items()}
        return []

    def _merge_factors(self, task_number: int) -> tuple[float, float]:
        """Return the factors of the old and of the new information."""
        if self.options.merge == "online":
            return self.options.decay, 1.0
        return (task_number - 1) / task_number, 1 / task_number

    def _information(self, task: Task, advance: Callable[[int], None]) -> Tensors:
        """Return (1 / N) sum over batches of n (gradient of the mean loss)^2, by parameter."""
        generator = seeding.generator(self.seed, "fisher", task.number)
        sample = torch.randperm(len(task.train), generator=generator)
        positions = sample[: self.consolidation_work(task)].sort().values
        return squared_gradients(
            self,
            task.train.subset(positions),
            self.shared(),
            batch_size=self.options.fisher_batch,
            advance=advance,
        )
