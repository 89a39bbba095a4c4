"""A network from pixels to probabilities, to be traced."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ness_cli.export.plain_network import plain_network
from ness_cli.export.subject import Subject
from ness_cli.files import write_bytes


class ProbabilityNetwork(nn.Module):
    """Probabilities and logits of uint8 images; normalisation is inside.

    Args:
        network: Gives logits of normalised images.
        mean: Mean of pixels in 0..1, ``[c]``.
        std: Their standard deviation, ``[c]``.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * mean[:, None, None])
        self.register_buffer("std", 255 * std[:, None, None])

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities and logits, ``[n, num_classes]``, of uint8 ``[n, c, h, w]``."""
        logits = self.network((images.float() - self.mean) / self.std)
        return logits.softmax(dim=1), logits


OUTPUTS = ("probabilities", "logits")
"""Names of what it puts out."""


def traced(subject: Subject, form: str) -> torch.export.ExportedProgram:
    """Return the trace of the exported task's network, for batches of any size.

    Args:
        subject: What is exported.
        form: Name of the format, for messages.

    Raises:
        SettingsError: If the network normalises by whatever batch an image comes in.
    """
    info, images = subject.info, subject.images[subject.task]
    # One image would be a constant of the trace, not a size.
    example = images if len(images) > 1 else images.repeat(2, 1, 1, 1)
    with subject.usable(form) as model, torch.no_grad():
        plain = plain_network(model, subject.normalised(subject.task))
        network = ProbabilityNetwork(plain, torch.tensor(info.mean), torch.tensor(info.std)).eval()
        return torch.export.export(
            network,
            (example,),
            dynamic_shapes={"images": {0: batch_size()}},
            strict=False,  # torch 2.6 would have its compiler trace the network
        )


def batch_size() -> Any:
    """Return the size of a batch in a trace; without a bound torch 2.6 guards against 2^63 - 1."""
    return torch.export.Dim("batch", max=2**31 - 1)


def save_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a trace. Torch's own writer of files ends the process where the disk is full.

    Raises:
        OSError: If the system refuses.
    """
    content = io.BytesIO()
    torch.export.save(program, content)
    write_bytes(path, content.getbuffer())
