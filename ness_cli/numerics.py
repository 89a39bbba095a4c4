"""How a device computes: in which precision, and whether twice the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from ness_cli.errors import SystemRefusedError
from ness_cli.settings.sections import ComputeSettings


def configure(settings: ComputeSettings) -> None:
    """Set the process to what a run asks for; every step of every run calls it anew."""
    if settings.determinism == "strict":
        # Without it torch refuses matrix products on CUDA; it is read at the first of them.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not use_deterministic_algorithms: it imports the compiler, which takes a second or more.
    torch.set_deterministic_debug_mode("error" if settings.determinism == "strict" else "default")
    # Filling new memory finds reads of what was never written; it costs a pass over every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = settings.determinism == "strict"
    torch.backends.cudnn.benchmark = settings.determinism == "off"
    _allow_tf32(False)


@contextmanager
def left_as_they_were() -> Iterator[None]:
    """Undo afterwards what ``configure`` does to a process that is not ours."""
    mode, cudnn = torch.get_deterministic_debug_mode(), torch.backends.cudnn
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    flags = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    matmul = torch.backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = flags
        torch.backends.cuda.matmul.allow_tf32 = matmul


def float64_device(device: torch.device) -> torch.device:
    """Return where tensors of a device are computed with in float64: there, or on the CPU."""
    return torch.device("cpu") if device.type == "mps" else device


def in_float64(x: torch.Tensor) -> torch.Tensor:
    """Return a tensor in float64, where it is; on the CPU if its device knows no float64."""
    return x.to(float64_device(x.device)).double()


def lower_precision(
    settings: ComputeSettings, device: torch.device
) -> AbstractContextManager[None]:
    """Return a context for the forward pass of a training step: autocast to bfloat16, or nothing.

    Weights, their gradients and the optimiser stay float32.
    """
    if settings.precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


@contextmanager
def tensor_cores(settings: ComputeSettings) -> Iterator[None]:
    """Allow TF32 within, forward and backward, if the settings do."""
    if settings.precision != "tf32":
        yield
        return
    _allow_tf32(True)
    try:
        yield
    finally:
        _allow_tf32(False)


def compiled(model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a model's forward pass, compiled; on a GPU its kernels are replayed as CUDA graphs.

    Raises:
        SystemRefusedError: At the first call, if the machine cannot compile.
    """
    # Not at the top: the compiler takes a second to import.
    from torch._dynamo.exc import BackendCompilerFailed
    from torch._inductor.exc import InductorError

    device = next(model.parameters()).device
    # The compiler has a flag of its own.
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    # Which kernel a shape gets must not depend on what was compiled before: a resumed task would
    # end with other bits. Every shape and every task of a batch gets its own.
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = 10_000
    mode = "reduce-overhead" if device.type == "cuda" else None
    forward = torch.compile(model, mode=mode, dynamic=False)

    def checked(x: torch.Tensor) -> torch.Tensor:
        try:
            y: torch.Tensor = forward(x)
        except (BackendCompilerFailed, InductorError) as error:
            raise SystemRefusedError(
                f"compute.compile: this machine cannot compile ({_first_line(error)})",
                "install a C++ compiler, or set compute.compile=off in another run",
            ) from error
        return y

    return checked


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Compute within in float32, whatever the precision of the training step.

    A projection that rounds its products lets a thousandth of every step out of the subspace.
    """
    allowed = torch.backends.cuda.matmul.allow_tf32
    if not allowed and not torch.is_autocast_enabled(device.type):
        yield
        return
    _allow_tf32(False)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        _allow_tf32(allowed)


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
