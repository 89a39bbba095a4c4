"""The device that a step computes on."""

from __future__ import annotations

import torch

from ness_cli.errors import SettingsError, SystemRefusedError
from ness_cli.workplace import Workplace


def torch_device(workplace: Workplace) -> torch.device:
    """Return the device, after setting the threads of the process.

    Raises:
        SettingsError: If there is no such kind of device.
        SystemRefusedError: If the machine does not have it.
    """
    if workplace.threads is not None:
        torch.set_num_threads(workplace.threads)
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    name = workplace.device
    if name == "auto":
        name = next((kind for kind, is_there in has.items() if is_there), "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", *has):
        raise SettingsError(f"--device: {name!r} is not auto, cpu, cuda, cuda:N or mps")
    missing = device.type in has and not has[device.type]
    if missing or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise SystemRefusedError(
            f"--device: {name} is not on this machine", "use --device auto or cpu"
        )
    return device
