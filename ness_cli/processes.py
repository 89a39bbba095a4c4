"""Several processes that make one step of a run together, started by ``torchrun``.

Every process opens the same run and holds the same weights. A batch is divided among them, its
gradients are summed, and so are the sums of a consolidation: what comes out is what one process
would have computed, to rounding. Only the first process writes, locks and talks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from ness_cli.errors import NessError, SystemRefusedError


@dataclass(frozen=True)
class Processes:
    """The processes of a step.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    def shard(self, positions: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Return this process's part of a batch, and its weight in the mean over the batch.

        A batch with fewer images than processes is computed by all of them alike.
        """
        if self.size == 1:
            return positions, 1.0
        if len(positions) < self.size:
            return positions, 1.0 / self.size
        own = positions[self.rank :: self.size]
        return own, len(own) / len(positions)

    def sum_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors of one dtype and device by their sums over all processes."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _all_taking_part():
            distributed.all_reduce(flat)
        start = 0
        for tensor in tensors:
            end = start + tensor.numel()
            tensor.copy_(flat[start:end].view_as(tensor))
            start = end

    def any(self, *flags: bool) -> list[bool]:
        """Return, for each flag, whether some process has raised it."""
        return [bool(flag) for flag in self.largest(*map(int, flags))]

    def largest(self, *values: int) -> list[int]:
        """Return, for each value, the largest that some process has."""
        if self.size == 1:
            return list(values)
        found = torch.tensor(values, dtype=torch.int64, device=_device())
        with _all_taking_part():
            distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return [int(value) for value in found.tolist()]

    def of_main(self, *values: float) -> tuple[float, ...]:
        """Return the values that the first process has."""
        if self.size == 1:
            return values
        found = torch.tensor(values, dtype=torch.float64, device=_device())
        with _all_taking_part():
            distributed.broadcast(found, 0)
        return tuple(found.tolist())

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.size > 1:
            with _all_taking_part():
                distributed.barrier()


def current_processes() -> Processes:
    """Return the processes that this one belongs to; itself alone if it has joined none."""
    if distributed.is_available() and distributed.is_initialized():
        return Processes(distributed.get_rank(), distributed.get_world_size())
    return Processes()


def num_started() -> int:
    """Return how many processes ``torchrun`` has started, 1 without it."""
    # A cluster may set WORLD_SIZE for reasons of its own.
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def local_device(name: str) -> str:
    """Return the device of this process: of several GPUs the one with its number on the machine."""
    if num_started() > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return name


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` has started, for the time of a step.

    If one fails, all do, and the one that failed first says why.

    Args:
        device: Where this process computes; NCCL connects GPUs, gloo everything else.

    Raises:
        FailedElsewhereError: If another process failed.
        ProcessLostError: If another process ended without a word.
    """
    if num_started() == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, size = next(rendezvous("env://"))
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield current_processes()
    except NessError as error:
        # The group is left as it is: to take it apart would need the others.
        raise _shared(store, rank, error) from error
    except Exception as error:
        _shared(store, rank, NessError(f"{type(error).__name__}: {error}"))
        raise
    distributed.destroy_process_group()


class ProcessLostError(SystemRefusedError):
    """Another process of the step has ended."""


class FailedElsewhereError(NessError):
    """Another process of the step has failed, and says why.

    Args:
        rank: Its number.
        failure: Its error, as in a document.
    """

    def __init__(self, rank: int, failure: Mapping[str, Any]) -> None:
        super().__init__(f"process {rank}: {failure['what']}", failure["remedy"] or "")
        self.kind = failure["kind"]
        self.exit_code = failure["exit_code"]
        self.is_told = True


def _shared(store: Any, rank: int, error: NessError) -> NessError:
    """Make the first failure of all processes known; return what this one ends with."""
    own = json.dumps({"rank": rank, **error.document()["error"]})
    try:
        first = store.compare_set("ness failure", "", own)
    except RuntimeError:  # with the process that held the store
        return error
    if first.decode() == own:
        return error
    failure = json.loads(first)
    if isinstance(error, ProcessLostError):
        return FailedElsewhereError(failure.pop("rank"), failure)
    error.is_told = True
    return error


@contextmanager
def _all_taking_part() -> Iterator[None]:
    """Say what it means when processes that work together cannot reach each other."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ProcessLostError(
            "another process of this step has ended",
            "see what it said, or whether the system ended it for want of memory; then run the"
            " same command again",
        ) from error


def all_sum(x: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes, with a gradient."""
    total: torch.Tensor = _AllSum.apply(x)  # type: ignore[no-untyped-call]
    return total


class _AllSum(torch.autograd.Function):
    # The gradient of a part is what the results of all processes owe to it.

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.contiguous().clone()
        with _all_taking_part():
            distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        with _all_taking_part():
            distributed.all_reduce(total)
        return total


def _device() -> torch.device:
    is_nccl = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if is_nccl else torch.device("cpu")
