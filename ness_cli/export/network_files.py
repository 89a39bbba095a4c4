"""The files of a network: weights by plain names, and how to make the network that takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import nn

from ness_cli.export.library_model import as_library_model, code_of
from ness_cli.export.plain_network import PlainNetwork
from ness_cli.export.source_code import source_of
from ness_cli.export.subject import Subject
from ness_cli.files import write_bytes, write_json
from ness_cli.nets.backbones.base_converted import ConvertedModel

WEIGHTS = "model.safetensors"
SOURCE = "network.py"


def config_of(subject: Subject) -> dict[str, Any]:
    """Return what a program must know of a network's images and answers, plain values."""
    info = subject.info
    channels, height, width = subject.images[subject.task].shape[1:]
    return {
        "classes": list(info.classes),
        "preprocessing": {
            "channels": channels,
            "height": height,
            "width": width,
            "scale": "1/255",
            "mean": list(info.mean),
            "std": list(info.std),
        },
    }


def write_network(plain: PlainNetwork, folder: Path, config: dict[str, Any]) -> None:
    """Write a network's weights and how it is made.

    Raises:
        SettingsError: If its forward pass cannot be written in terms of torch.
    """
    if isinstance(plain.backbone, ConvertedModel):
        network = as_library_model(plain)
        config = {**config, "network": plain.backbone.origin(plain.head.out_features)}
    else:
        network = plain
        write_bytes(folder / SOURCE, source_of(plain).encode())
        config = {**config, "network": {"file": SOURCE, "class": "Network"}}
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_json(folder / "config.json", config)


def read_network(folder: Path, backbone: nn.Module, num_classes: int) -> nn.Module:
    """Return the network that ``write_network`` wrote, in evaluation mode.

    Args:
        folder: Where it is.
        backbone: The backbone that it was written from, to know the library by.
        num_classes: How wide its head is.
    """
    if isinstance(backbone, ConvertedModel):
        network = backbone.remade(num_classes)
    else:
        network = _network_of_source(folder / SOURCE)
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval()


def making(backbone: nn.Module, num_classes: int) -> tuple[str, str]:
    """Return the Python expression that makes a written network, and what it must import."""
    if not isinstance(backbone, ConvertedModel):
        return "Network()", "from network import Network"
    origin = backbone.origin(num_classes)
    return code_of(origin), f"import {origin['library']}"


def _network_of_source(path: Path) -> nn.Module:
    # Not imported, which would leave compiled code beside it.
    names: dict[str, Any] = {"__name__": "exported_network"}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    network: nn.Module = names["Network"]()
    return network
