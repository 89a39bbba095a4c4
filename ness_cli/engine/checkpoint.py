"""The state inside an unfinished task, in one safetensors file.

It holds whatever cannot be made anew from the files of earlier steps: the trained parameters, their
best values so far, the optimiser's moments, the method's own state and every random generator, with
counters, schedule and history as JSON in the header.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ness_cli import tensor_files
from ness_cli.files import remove_file


@dataclass(frozen=True)
class CheckpointFile:
    """Where the checkpoint of a task lies and what it must belong to.

    Attributes:
        path: The file.
        identity: Run and task, and hashes of the inputs the training started from.
        remedy: What to do about a damaged file, for error messages.
        before_save: Called before the file is written; raises where it must not be.
    """

    path: Path
    identity: Mapping[str, Any]
    remedy: str
    before_save: Callable[[], None] = lambda: None

    def save(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Write tensors and plain values, atomically."""
        self.before_save()
        about = {**self.identity, "state": state}
        tensor_files.write(self.path, tensors, about, is_sealed=True)

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return tensors and plain values, or ``None`` if there is no checkpoint.

        A checkpoint of other inputs (a task before was redone) is of no use and is passed over.

        Raises:
            DamagedError: If the file does not read back.
        """
        if not self.path.exists():
            return None
        tensors, found = tensor_files.read_with_identity(self.path, remedy=self.remedy)
        if any(found.get(key) != value for key, value in self.identity.items()):
            return None
        return tensors, found["state"]

    def remove(self) -> None:
        """Delete the file, if it is there."""
        remove_file(self.path)


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Return the optimiser's state as ``<parameter>/<key>`` tensors."""
    return {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Put back what ``optimizer_tensors`` returned."""
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        parameter = parameters[name]
        # Adam's step counters stay on the CPU; moments lie beside their parameter, and as it does:
        # the fused step walks through the memory of both.
        is_moment = value.shape == parameter.shape
        own = torch.empty_like(parameter).copy_(value) if is_moment else value
        optimizer.state[parameter][entry] = own.detach()


def random_tensors(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of the generators that training draws from, as uint8 tensors."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["device"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["device"] = torch.mps.get_rng_state()
    return states


def load_random(tensors: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Put back what ``random_tensors`` returned."""
    torch.set_rng_state(tensors["cpu"])
    if "device" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["device"], device)
    elif "device" in tensors and device.type == "mps":
        torch.mps.set_rng_state(tensors["device"])
