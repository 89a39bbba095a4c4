"""``torch``: weights by plain names, and how to make the network that takes them."""

from __future__ import annotations

from pathlib import Path

import torch

from ness_cli.export.formats.base_network import NetworkFormat
from ness_cli.export.network_files import WEIGHTS, config_of, making, read_network, write_network
from ness_cli.export.plain_network import plain_network
from ness_cli.export.subject import Subject


class Torch(NetworkFormat):
    """``model.safetensors`` and ``config.json``; ``network.py`` where no library has it."""

    def write(self, subject: Subject, folder: Path) -> None:
        """Write them; errors as in the base class."""
        self.refuse_hooks(subject)
        with subject.usable(self.name) as model:
            plain = plain_network(model, subject.normalised(subject.task))
        write_network(plain, folder, config_of(subject))

    def logits(self, subject: Subject, folder: Path, task_number: int) -> torch.Tensor:
        """Return the logits of a network that is made from the files."""
        with subject.view(subject.task) as model:
            network = read_network(folder, model.backbone, subject.info.num_classes)
        with torch.no_grad():
            found: torch.Tensor = network(subject.normalised(task_number))
        return found

    def usage(self, subject: Subject) -> str:
        """Return how to make the network."""
        with subject.view(subject.task) as model:
            maker, imports = making(model.backbone, subject.info.num_classes)
        return (
            f"```python\n{imports}\nfrom safetensors.torch import load_file\n\n"
            f'model = {maker}\nmodel.load_state_dict(load_file("{WEIGHTS}"))\n'
            "logits = model.eval()(images)\n```"
        )
