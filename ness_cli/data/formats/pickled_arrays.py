"""Stand-ins for numpy in pickles: a pickle never gets hold of a numpy object or a function.

What it calls ``numpy.dtype`` or ``_reconstruct`` are objects of this module that write down what
is asked of them. Real arrays are made of that when the pickle has been read: numbers and strings
of fixed length, out of as many bytes as they need. numpy itself would let a pickle declare an
array of objects out of raw bytes, which crashes, and overwrite the defaults of its functions.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PLAIN = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,5}")
_LONGEST_SCALAR = 1024  # bytes; each is a copy of its own, however often it is asked for
_BYTE_ORDERS = ("<", ">", "|", "=")


class RefusedError(Exception):
    """The pickle asked for something that a data file has no business with."""


class Dtype:
    """What a pickle calls a dtype: the kind of plain values, and their byte order.

    Args:
        spec: Kind and length, as ``u1``.

    Raises:
        RefusedError: If it is no kind of numbers or strings.
    """

    __slots__ = ("_order", "_spec")

    def __init__(self, spec: object) -> None:
        if not isinstance(spec, str) or not _PLAIN.fullmatch(spec):
            raise RefusedError(f"an array of {spec!r:.40}")
        self._spec, self._order = spec, "="

    def __setstate__(self, state: object) -> None:
        """Take over the byte order; a state with fields, names or a subarray is refused."""
        plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)
        if not plain or state[1] not in _BYTE_ORDERS:  # type: ignore[index]
            raise RefusedError(f"an array of {self._spec!r} with other properties")
        self._order = state[1]  # type: ignore[index]

    def real(self) -> np.dtype[Any]:
        """Return the dtype that is meant."""
        return np.dtype(self._spec).newbyteorder(self._order)  # type: ignore[arg-type]


class Array:
    """What a pickle calls an array; empty until its state is known."""

    __slots__ = ("_real",)

    def __init__(self) -> None:
        self._real: NDArray[Any] = np.empty(0, np.uint8)

    def __setstate__(self, state: object) -> None:
        """Build the array from the state that numpy pickles."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise RefusedError("an array of an unknown layout")
        _, shape, dtype, is_fortran, raw = state
        self.fill(raw, dtype, shape, "F" if is_fortran else "C")

    def fill(self, raw: object, dtype: object, shape: object, order: object) -> None:
        """Build the array, which cannot be written to.

        Raises:
            RefusedError: If it is not made of plain values.
            ValueError: If there are more or fewer bytes than it needs.
        """
        if not isinstance(dtype, Dtype) or not isinstance(shape, tuple):
            raise RefusedError("an array of an unknown layout")
        self._real = _array(raw, dtype.real(), shape, "F" if order == "F" else "C")

    def transpose(self, axes: object) -> None:
        """Bring the axes into another order.

        Raises:
            ValueError: If it is no order of the axes.
        """
        if not isinstance(axes, tuple) or sorted(axes) != list(range(self._real.ndim)):
            raise ValueError("axes of an array are named wrongly")
        self._real = self._real.transpose(axes)

    def real(self) -> NDArray[Any]:
        """Return the array that is meant."""
        return self._real


def _array(raw: object, dtype: np.dtype[Any], shape: tuple[Any, ...], order: Any) -> NDArray[Any]:
    # Python 2 had no bytes: its strings arrive as text, a character per byte.
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(data, bytes | bytearray):
        raise RefusedError("an array of objects")
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError("an array has a wrong shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of {math.prod(shape)} values has {len(data)} bytes")
    # frombuffer, unlike ndarray, keeps the pickle from changing the size of a bytearray afterwards.
    array = np.frombuffer(data, dtype).reshape(shape, order=order)
    array.flags.writeable = False
    return array


# -- what a pickle may name ----------------------------------------------------------------------


class _Name:
    """Something that a pickle may name and not change; subclasses may be called."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise RefusedError("a changed function")


class _MakeDtype(_Name):
    __slots__ = ()

    def __call__(self, spec: object, *flags: object) -> Dtype:
        return Dtype(spec)


class _Reconstruct(_Name):
    __slots__ = ()

    def __call__(self, kind: object, *placeholders: object) -> Array:
        return Array()


class _FromBuffer(_Name):
    __slots__ = ()

    def __call__(
        self, raw: object, dtype: object, shape: object, order: object, axes: object = None
    ) -> Array:
        array = Array()
        array.fill(raw, dtype, shape, order)
        if axes is not None:
            array.transpose(axes)
        return array


class _Scalar(_Name):
    __slots__ = ()

    def __call__(self, dtype: object, raw: object) -> Any:
        array = Array()
        array.fill(raw, dtype, (), "C")
        if array.real().nbytes > _LONGEST_SCALAR:
            raise RefusedError("a text of a fixed length without end")
        return array.real().item()


class _Encode(_Name):
    """How Python 3 writes bytes in protocols that have none.

    Bytes of one text are made once: a small file could ask for any memory otherwise.
    """

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[str, bytes] = {}

    def __call__(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise RefusedError("text in a codec")
        if text not in self._made:
            self._made[text] = text.encode("latin1")
        return self._made[text]


class _NoBytes(_Name):
    """How Python 3 writes empty bytes in protocols that have none."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


class Names:
    """What one pickle may name."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Name] = {
            ("numpy", "ndarray"): _Name(),
            ("numpy", "dtype"): _MakeDtype(),
            ("_codecs", "encode"): _Encode(),
            ("__builtin__", "bytes"): _NoBytes(),
            ("builtins", "bytes"): _NoBytes(),
        }
        for core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
            self._known[f"{core}.multiarray", "_reconstruct"] = _Reconstruct()
            self._known[f"{core}.multiarray", "scalar"] = _Scalar()
            self._known[f"{core}.numeric", "_frombuffer"] = _FromBuffer()

    def stand_in(self, module: str, name: str) -> object:
        """Return the stand-in for what a pickle names.

        Raises:
            RefusedError: If a data file has no business with it.
        """
        if (module, name) not in self._known:
            raise RefusedError(f"{module}.{name}"[:100])
        return self._known[module, name]


def real(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """Return a value with real arrays in the place of stand-ins.

    Args:
        value: What a pickle built; lists and dicts are changed in place.
        seen: What has been replaced already, by identity: values may hold themselves.

    Raises:
        RefusedError: If something but a value is among them.
    """
    seen = {} if seen is None else seen
    if isinstance(value, Array | Dtype):
        return value.real()
    if isinstance(value, _Name):
        raise RefusedError("a function")
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, tuple):
        seen[id(value)] = value
        seen[id(value)] = tuple(real(each, seen) for each in value)
    elif isinstance(value, list):
        seen[id(value)] = value
        value[:] = [real(each, seen) for each in value]
    elif isinstance(value, dict):
        seen[id(value)] = value
        pairs = [(real(key, seen), real(each, seen)) for key, each in value.items()]
        value.clear()
        value.update(pairs)
    return seen.get(id(value), value)
