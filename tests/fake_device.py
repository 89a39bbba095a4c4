"""Tensors that behave as if they lay on a device without float64, as Apple's do."""

from __future__ import annotations

import torch


class WithoutFloat64(torch.Tensor):
    """On ``mps`` by its own account: refuses float64, and leaves the device through ``cpu`` only.

    What is computed from one lies on the device too.
    """

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if function == torch.Tensor.device.__get__:
            return torch.device("mps")
        if name not in ("to", "copy_"):
            for other in args:
                if type(other) is torch.Tensor and other.dim():
                    raise RuntimeError("Expected all tensors to be on the same device")
        if name == "cpu" or (name == "to" and torch.device("cpu") in args[1:]):
            plain = args[0].as_subclass(torch.Tensor).clone()
            return plain if name == "cpu" else plain.to(*args[1:], **(kwargs or {}))
        found = super().__torch_function__(function, types, args, kwargs)
        for value in found if isinstance(found, list | tuple) else (found,):
            if isinstance(value, cls) and value.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return found


def on_device(tensor: torch.Tensor) -> WithoutFloat64:
    """Return a tensor as if it lay on the device."""
    return tensor.detach().clone().as_subclass(WithoutFloat64)
