"""Read public data sets that come pickled, building nothing but arrays and plain values.

A pickle is a program. This reader lets it name the few functions that rebuild numpy arrays, and
refuses anything else before it is called.
"""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO

from ness_cli.errors import InputError

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),  # how Python 3 writes bytes in protocol 2
}


class _RefusedError(Exception):
    """The pickle asked for something that a data file has no business with."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _RefusedError(f"{module}.{name}")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("a persistent object")


def load(file: BinaryIO, name: str) -> Any:
    """Return what is pickled in a file: arrays, numbers, strings, lists, tuples and dicts of them.

    Args:
        file: The pickle; byte strings of Python 2 are read as Latin-1.
        name: What messages call it.

    Raises:
        InputError: If it asks for anything but arrays and plain values, or cannot be read.
    """
    try:
        return _Reader(file, encoding="latin1").load()
    except _RefusedError as error:
        raise InputError(
            f"{name} wants to build {error}: a data file has no business to",
            "do not trust this file; get it again from its publisher",
        ) from error
    except MemoryError:
        raise
    # A damaged pickle can fail in any way: wrong opcodes, stack underflow, wrong array shapes.
    except Exception as error:
        raise InputError(
            f"{name} cannot be read as a pickle: {error or type(error).__name__}",
            "get the file again",
        ) from error
