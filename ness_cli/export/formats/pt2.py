"""``pt2``: a program of ``torch.export``, from pixels to probabilities."""

from __future__ import annotations

from pathlib import Path

import torch

from ness_cli.export.formats.base import ExportFormat
from ness_cli.export.probability_network import save_program, traced
from ness_cli.export.subject import Subject

PROGRAM = "model.pt2"


class Pt2(ExportFormat):
    """``model.pt2``: it needs nothing but torch."""

    def write(self, subject: Subject, folder: Path) -> None:
        """Write it; errors as in the base class."""
        save_program(traced(subject, self.name), folder / PROGRAM)

    def logits(self, subject: Subject, folder: Path, task_number: int) -> torch.Tensor:
        """Return the logits of the program, of the first image alone and of the others together."""
        program, images = torch.export.load(folder / PROGRAM).module(), subject.images[task_number]
        parts = [part for part in (images[:1], images[1:]) if len(part)]
        return torch.cat([program(part)[1] for part in parts])

    def usage(self, subject: Subject) -> str:
        """Return how to run the program."""
        return (
            "```python\nimport torch\n\n"
            f'model = torch.export.load("{PROGRAM}").module()\n'
            "probabilities, logits = model(images)"
            "  # of any number of images; normalisation is inside\n```"
        )
