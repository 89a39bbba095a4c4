"""``merged``: one program for all tasks; the task of every image is an input."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ness_cli.export.formats.base import ExportFormat
from ness_cli.export.merged_network import merged_network
from ness_cli.export.probability_network import batch_size, save_program
from ness_cli.export.subject import Subject

PROGRAM = "model.pt2"


class Merged(ExportFormat):
    """``model.pt2``: images and the number of each one's task to probabilities."""

    holds_all_tasks = True

    def write(self, subject: Subject, folder: Path) -> None:
        """Write it; errors as in the base class."""
        self.refuse_hooks(subject)
        network = merged_network(subject, self.name)
        images = next(iter(subject.images.values()))
        # One image would be a constant of the trace, not a size.
        example = images[:1].repeat(2, 1, 1, 1), torch.ones(2, dtype=torch.int64)
        batch = batch_size()
        shapes = {"images": {0: batch}, "tasks": {0: batch}}
        with torch.no_grad():
            program = torch.export.export(network, example, dynamic_shapes=shapes, strict=False)
        save_program(program, folder / PROGRAM)

    def logits(self, subject: Subject, folder: Path, task_number: int) -> torch.Tensor:
        """Return the logits of a task's classes; its images stand among those of others."""
        program: nn.Module = torch.export.load(folder / PROGRAM).module()
        counts = [len(images) for images in subject.images.values()]
        tasks = torch.tensor(list(subject.images)).repeat_interleave(torch.tensor(counts))
        found: torch.Tensor = program(torch.cat(list(subject.images.values())), tasks)[1]
        own = subject.tasks[task_number - 1].num_classes
        return found[tasks == task_number, :own]

    def usage(self, subject: Subject) -> str:
        """Return how to run the program."""
        return (
            "```python\nimport torch\n\n"
            f'model = torch.export.load("{PROGRAM}").module()\n'
            f"tasks = torch.full((len(images),), {subject.task})  # the task of each, from 1\n"
            "probabilities, logits = model(images, tasks)\n```\n\n"
            "Any number of images, of any tasks; normalisation is inside. Outputs are those of the"
            " task's classes in their order; where another task has more classes the rest is 0,"
            " logits -inf."
        )
