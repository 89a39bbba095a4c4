"""torchvision and timm, imported when they are needed and not before."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch

from ness_cli.errors import SystemRefusedError

# What torchvision registers at import; without its compiled part it finds nothing to register on.
_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_stand_ins: list[torch.library.Library] = []  # kept: operators go away with their library


def import_torchvision() -> ModuleType:
    """Return torchvision.

    A torchvision built for CUDA beside a torch built for the CPU cannot load its compiled part, and
    its import fails for want of two operators that only detection models use. They are declared
    here, without an implementation, and everything else works.

    Raises:
        SystemRefusedError: If it is not installed, or does not belong to the torch at hand.
    """
    with _refused(
        "torchvision", f"install the torchvision that belongs to torch {torch.__version__}"
    ):
        _declare_missing_operators()
        return importlib.import_module("torchvision")


def import_timm() -> ModuleType:
    """Return timm.

    Raises:
        SystemRefusedError: If it is not installed, or cannot be imported.
    """
    import_torchvision()  # which timm imports, and could not everywhere
    if importlib.util.find_spec("timm") is None:
        raise SystemRefusedError(
            "net.name=timm: timm is not installed", "pip install 'ness-cli[timm]'"
        )
    with _refused("timm", f"install a timm that goes with torch {torch.__version__}"):
        return importlib.import_module("timm")


@contextmanager
def _refused(library: str, remedy: str) -> Iterator[None]:
    """Say of a library that cannot be imported why, and what to do."""
    try:
        yield
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise SystemRefusedError(f"{library} cannot be imported: {reason}", remedy) from error


def _declare_missing_operators() -> None:
    if _stand_ins or _compiled_part_loads():
        return
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        library.define(name + _SCHEMA)  # type: ignore[no-untyped-call]
    _stand_ins.append(library)


def _compiled_part_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ImportError("it is not installed")
    compiled = [*Path(spec.origin).parent.glob("_C*.so"), *Path(spec.origin).parent.glob("_C*.pyd")]
    try:
        for path in compiled:
            torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return bool(compiled)
