"""Named tensors on disk: safetensors, written atomically, with an identity, checked when read.

Two undisturbed runs write byte-identical files: the header holds a single metadata key, ``ness``,
with sorted JSON, and nothing that differs from run to run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, deserialize

from ness_cli.errors import DamagedError, InputError
from ness_cli.file_kinds import require_file
from ness_cli.files import later_version, write_chunks

FORMAT = 1
_KEY = "ness"
_SEAL = "seal"
_TYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}  # in the order of a file
_DTYPES = {name: dtype for dtype, name in _TYPES.items()}

# What damaged bytes make of parsing them.
_UNREADABLE = (
    *(SafetensorError, ValueError, TypeError, KeyError, AttributeError),
    *(RecursionError, OverflowError),
)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the header of its file describes it.

    Attributes:
        dtype: Type of its numbers as safetensors calls it: ``F32``.
        num_values: How many there are.
        num_bytes: Their bytes.
    """

    dtype: str
    num_values: int
    num_bytes: int


def write(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    identity: Mapping[str, Any],
    *,
    is_sealed: bool = False,
) -> str:
    """Write tensors and return the SHA-256 of the file.

    Args:
        path: Where to write; an existing file is replaced only when the new one is complete.
        tensors: Tensors by name, any device; stored contiguous, each by itself.
        identity: What the tensors are (kind, run, task), put into the header as JSON.
        is_sealed: Put a hash of everything else into the header, which is checked when the file is
            read; for files whose own hash no record keeps.
    """
    about = json.loads(json.dumps({"format": FORMAT, **identity}))
    if is_sealed:
        about[_SEAL] = _seal(tensors, about)
    header = _header(tensors, about)
    digest = hashlib.sha256()

    def chunks() -> Iterator[bytes | memoryview]:
        digest.update(header)
        yield header
        for data in _contents(tensors):
            digest.update(data)
            yield data

    write_chunks(path, chunks(), size=len(header) + num_bytes(tensors))
    return digest.hexdigest()


def _contents(tensors: Mapping[str, torch.Tensor]) -> Iterator[memoryview]:
    """Yield the bytes of one tensor at a time: a copy of all would be as large as the file."""
    for name in _in_file_order(tensors):
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        data: memoryview = flat.view(torch.uint8).numpy().data
        yield data


def _seal(tensors: Mapping[str, torch.Tensor], identity: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a file that were not sealed."""
    digest = hashlib.sha256(_header(tensors, identity))
    for data in _contents(tensors):
        digest.update(data)
    return digest.hexdigest()


def _in_file_order(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return names as the safetensors library orders them: widest numbers first, then by name."""
    types = list(_TYPES)
    return sorted(tensors, key=lambda name: (types.index(tensors[name].dtype), name.encode()))


def _header(tensors: Mapping[str, torch.Tensor], identity: Mapping[str, Any]) -> bytes:
    """Return the first bytes of a file, those that the safetensors library would write.

    The length of a JSON object as 64 bits, and the object, with spaces up to a multiple of eight.
    """
    found: dict[str, Any] = {"__metadata__": {_KEY: json.dumps(identity, sort_keys=True)}}
    end = 0
    for name in _in_file_order(tensors):
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        found[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read(
    path: Path,
    identity: Mapping[str, Any],
    *,
    remedy: str,
    sha256: str | None = None,
    names: Container[str] | None = None,
) -> dict[str, torch.Tensor]:
    """Return the tensors of a file, on the CPU, after checking that they are the expected ones.

    Args:
        path: The file.
        identity: Keys and values that its header must have.
        remedy: The command that writes it, for error messages.
        sha256: The file's expected hash, if its writer recorded one.
        names: Which tensors are made, of those that are there; all when ``None``.

    Raises:
        InputError: If the file is missing or belongs to something else.
        DamagedError: If it does not read back as it was written.
    """
    data = _bytes_of(path, remedy)
    tensors, found = _parse(path, data, remedy, names)
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


def stored(path: Path, *, remedy: str) -> list[StoredTensor]:
    """Return the tensors of a file, described by its header, which alone is read.

    Raises:
        InputError: If the file is missing.
        DamagedError: If its header does not read back.
    """
    require_file(path, remedy)
    try:
        with path.open("rb") as file:
            length, size = int.from_bytes(file.read(8), "little"), path.stat().st_size
            if length > size:  # nobody makes room for what is not there
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
        tensors = [own for name, own in header.items() if name != "__metadata__"]
        return [
            StoredTensor(own["dtype"], math.prod(own["shape"]), end - start)
            for own in tensors
            for start, end in (own["data_offsets"],)
        ]
    except FileNotFoundError:
        raise InputError(f"{path} is missing", remedy) from None
    except _UNREADABLE as error:
        raise DamagedError(f"{path} is damaged: {error}", remedy) from error


def _bytes_of(path: Path, remedy: str) -> bytes:
    require_file(path, remedy)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing", remedy) from None


def _parse(
    path: Path, data: bytes, remedy: str, names: Container[str] | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        stored = deserialize(data)  # type: ignore[no-untyped-call]  # checks the header
        tensors = {name: _tensor(own) for name, own in stored if names is None or name in names}
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])["__metadata__"]
        found = json.loads(header[_KEY])
        seal = found.pop(_SEAL, None)
    except _UNREADABLE as error:
        raise DamagedError(f"{path} is damaged: {error}", remedy) from error
    number = found.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise later_version(path, f"of format {number}", FORMAT)
    if seal is not None and seal != _seal(tensors, found):
        raise DamagedError(f"{path} is damaged: it is not what was written", remedy)
    if number != FORMAT:
        raise InputError(f"{path} has format {number!r}; this version reads {FORMAT}", remedy)
    return tensors, found


def _tensor(stored: Mapping[str, Any]) -> torch.Tensor:
    dtype, data = _DTYPES[stored["dtype"]], stored["data"]
    if not data:  # which torch refuses
        return torch.empty(stored["shape"], dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(stored["shape"])


def num_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Return the size of all tensors together, in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
