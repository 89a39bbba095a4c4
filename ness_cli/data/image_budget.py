"""How much of a device's memory images may take: one budget for all sets that are open."""

from __future__ import annotations

import weakref

import torch


class ImageBudget:
    """Half of the memory that a device would have free without images.

    The other half is for the network. What a set took is given back when the set is gone.

    Args:
        device: The device. Main memory, which holds what it has read anyway, has no limit.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held = 0

    def take(self, images: torch.Tensor, owner: object) -> bool:
        """Return whether images may lie on the device, and hold the memory for them if so.

        Args:
            images: The images.
            owner: Lives as long as they do.
        """
        if self._device.type != "cuda":
            return True
        size = images.numel() * images.element_size()
        if self._held + size > (_free(self._device) + self._held) // 2:
            return False
        self._held += size
        weakref.finalize(owner, self._give_back, size).atexit = False
        return True

    def _give_back(self, size: int) -> None:
        self._held -= size


def _free(device: torch.device) -> int:
    """Return the bytes that are free, or that torch keeps for tensors to come."""
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + kept
