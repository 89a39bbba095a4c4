"""Read public data sets that come pickled, building nothing but arrays and plain values.

A pickle is a program. This reader lets it name the few functions that rebuild numpy arrays, gives
it stand-ins for them, and refuses anything else before it is called.
"""

from __future__ import annotations

import os
import pickle
import pickletools
from typing import Any, BinaryIO

from ness_cli.data import pickled_arrays
from ness_cli.data.pickled_arrays import RefusedError
from ness_cli.errors import InputError


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return pickled_arrays.named(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedError("a persistent object")


def load(file: BinaryIO, name: str) -> Any:
    """Return what is pickled in a file: arrays, numbers, strings, lists, tuples and dicts of them.

    Arrays cannot be written to; numpy's numbers come as Python's.

    Args:
        file: The pickle, from its beginning; byte strings of Python 2 are read as Latin-1.
        name: What messages call it.

    Raises:
        InputError: If it asks for anything but arrays and plain values, or cannot be read.
        MemoryError: If memory is too small for what it holds.
    """
    try:
        return pickled_arrays.real(_Reader(file, encoding="latin1").load())
    except RefusedError as error:
        raise InputError(
            f"{name} wants to build {error}: a data file has no business to",
            "do not trust this file; get it again from its publisher",
        ) from error
    except MemoryError as error:
        if not _is_cut_short(file):
            raise
        raise InputError(
            f"{name} cannot be read as a pickle: it declares more than it holds",
            "get the file again",
        ) from error
    # A damaged pickle can fail in any way: wrong opcodes, stack underflow, wrong array shapes.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{name} cannot be read as a pickle: {reason}", "get the file again"
        ) from error


def _is_cut_short(file: BinaryIO) -> bool:
    """Return whether a pickle declares more bytes or values than it has.

    Memory for them is asked for before they are read: damage looks like a lack of memory.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    bounded: Any = _Bounded(file, size)
    try:
        for opcode, argument, _ in pickletools.genops(bounded):
            if argument is not None and opcode.name.endswith("PUT") and int(argument) > size:
                return True
    except UnicodeDecodeError:  # a byte string of Python 2, which is no damage
        return False
    except ValueError:
        return True
    return False


class _Bounded:
    """A file that reads no more than it has, whatever is asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.readline = file.readline
        self.tell = file.tell

    def read(self, number: int) -> bytes:
        return self._file.read(min(number, self._size - self._file.tell()))
