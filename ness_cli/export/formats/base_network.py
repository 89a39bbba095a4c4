"""Formats that hold a network's weights: what makes it is a program's own, and so are constants."""

from __future__ import annotations

from ness_cli.export.formats.base import ExportFormat
from ness_cli.export.subject import Subject
from ness_cli.nets.backbones.base_converted import ConvertedModel


class NetworkFormat(ExportFormat):
    """A format whose network takes normalised images."""

    def needs(self, subject: Subject) -> tuple[str, ...]:
        """Return what must be installed: the library of the network, too."""
        with subject.view(subject.task) as model:
            backbone = model.backbone
        library = [backbone.origin(1)["library"]] if isinstance(backbone, ConvertedModel) else []
        return ("torch", "safetensors", *library)

    def images_of_pixels(self, subject: Subject) -> str:
        """Return how pixels are normalised."""
        constants = [[round(v, 9) for v in each] for each in (subject.info.mean, subject.info.std)]
        return (
            f"mean, std = torch.tensor({constants})[:, :, None, None]\n"
            "images = (torch.from_numpy(pixels) / 255 - mean) / std"
        )
