"""Random numbers with an address: one generator per (seed, purpose, task, epoch).

Because every generator can be made anew from its address, nothing depends on what ran before in the
same process, and a resumed step needs no history to draw the same numbers.
"""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, purpose: str, task: int = 0, epoch: int = 0) -> int:
    """Return a 63-bit seed for an address; different addresses give unrelated seeds."""
    address = f"{seed}/{purpose}/{task}/{epoch}".encode()
    return int.from_bytes(hashlib.sha256(address).digest()[:8], "little") >> 1


def generator(seed: int, purpose: str, task: int = 0, epoch: int = 0) -> torch.Generator:
    """Return a CPU generator for an address."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, task, epoch))


def seed_default(seed: int, purpose: str, task: int = 0, epoch: int = 0) -> None:
    """Seed torch's default generators, which dropout and initialisation draw from."""
    torch.manual_seed(derived_seed(seed, purpose, task, epoch))
