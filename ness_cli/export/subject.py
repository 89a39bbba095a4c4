"""What is exported: a trained model as its tasks use it, with real images to check it by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from ness_cli.data.task_stream import TaskInfo
from ness_cli.errors import SettingsError
from ness_cli.nets.multi_head import MultiHead
from ness_cli.settings.nets.base import NetSettings

View = Callable[[int], AbstractContextManager[MultiHead]]
"""Gives the network as a task knows it, in evaluation mode, on the CPU."""


@dataclass(frozen=True)
class Subject:
    """A trained model, and what it puts out for some images.

    Attributes:
        view: The network as a task knows it.
        net: Settings of the network.
        method: Name of the method.
        task: The task whose head is exported.
        tasks: What is known of the tasks that the model learned.
        images: Images to check by, uint8 ``[n, c, h, w]``, by the task that they belong to.
        first_view: The network after task 1, as task 1 knows it.
    """

    view: View
    net: NetSettings
    method: str
    task: int
    tasks: Sequence[TaskInfo]
    images: Mapping[int, torch.Tensor]
    first_view: View

    @property
    def info(self) -> TaskInfo:
        """What is known of the exported task."""
        return self.tasks[self.task - 1]

    def normalised(self, task_number: int) -> torch.Tensor:
        """Return the images of a task as its network takes them, float32 ``[n, c, h, w]``."""
        info, images = self.tasks[task_number - 1], self.images[task_number]
        mean, std = torch.tensor([info.mean, info.std])[:, :, None, None] * 255
        x: torch.Tensor = (images.float() - mean) / std
        return x

    @torch.no_grad()
    def logits(self, task_number: int) -> torch.Tensor:
        """Return the run's own logits for the images of a task, ``[n, num_classes]``."""
        with self.view(task_number) as model:
            found: torch.Tensor = model(self.normalised(task_number))
        return found

    @contextmanager
    def usable(self, form: str) -> Iterator[MultiHead]:
        """Give the network as the exported task knows it, if its outputs are those of one image.

        Args:
            form: Name of the format, for messages.

        Raises:
            SettingsError: If it normalises by whatever batch an image comes in.
        """
        with self.view(self.task) as model:
            missing = any(not norm.has_statistics(self.task) for norm in model.norms())
            if model.statistics == "batch" or missing:
                raise SettingsError(
                    f"--to {form}: norm.statistics=batch normalises an image by the others of its"
                    " batch, which no exported network should",
                    "train a run with norm.statistics=task",
                )
            yield model
