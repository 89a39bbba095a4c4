"""Named tensors on disk: safetensors, written atomically, with an identity, checked when read.

Two undisturbed runs write byte-identical files: the header holds a single metadata key, ``ness``,
with sorted JSON, and nothing that differs from run to run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ness_cli.errors import DamagedError, InputError
from ness_cli.files import write_bytes

FORMAT = 1
_KEY = "ness"


def write(path: Path, tensors: Mapping[str, torch.Tensor], identity: Mapping[str, Any]) -> str:
    """Write tensors and return the SHA-256 of the file.

    Args:
        path: Where to write; an existing file is replaced only when the new one is complete.
        tensors: Tensors by name, any device; stored contiguous, each with memory of its own.
        identity: What the tensors are (kind, run, task), put into the header as JSON.
    """
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {_KEY: json.dumps({"format": FORMAT, **identity}, sort_keys=True)}
    # A clone where two names share memory: safetensors refuses to guess which one owns it.
    pointers: set[int] = set()
    for name, tensor in own.items():
        if tensor.data_ptr() in pointers and tensor.numel():
            own[name] = tensor.clone()
        pointers.add(tensor.data_ptr())
    data = save(own, metadata=header)
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def read(
    path: Path,
    identity: Mapping[str, Any],
    *,
    remedy: str,
    sha256: str | None = None,
) -> dict[str, torch.Tensor]:
    """Return the tensors of a file, on the CPU, after checking that they are the expected ones.

    Args:
        path: The file.
        identity: Keys and values that its header must have.
        remedy: The command that writes it, for error messages.
        sha256: The file's expected hash, if its writer recorded one.

    Raises:
        InputError: If the file is missing or belongs to something else.
        DamagedError: If it does not read back as it was written.
    """
    data = _bytes_of(path, remedy)
    tensors, found = _parse(path, data, remedy)
    for key, value in identity.items():
        if found.get(key) != value:
            raise InputError(
                f"{path} does not belong here: its {key} is {found.get(key)!r}, not {value!r}",
                remedy,
            )
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise DamagedError(f"{path} is damaged: it is not what was written", remedy)
    return tensors


def read_with_identity(
    path: Path, *, remedy: str
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors of a file and the identity in its header; errors as in ``read``."""
    return _parse(path, _bytes_of(path, remedy), remedy)


def _bytes_of(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing", remedy) from None


def _parse(path: Path, data: bytes, remedy: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        found = json.loads(header[_KEY])
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedError(f"{path} is damaged: {error}", remedy) from error
    if found.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {found.get('format')!r}; this version reads {FORMAT}", remedy
        )
    return tensors, found


def num_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Return the size of all tensors together, in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
