"""Read public data sets that come pickled, building nothing but arrays and plain values.

A pickle is a program. This reader lets it name the few functions that rebuild numpy arrays, gives
it stand-ins for them, and refuses anything else before it is called.
"""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO

from ness_cli.data.formats import pickled_arrays
from ness_cli.data.formats.pickle_scan import refuse_excess
from ness_cli.data.formats.pickled_arrays import RefusedError
from ness_cli.errors import InputError


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")
        self._names = pickled_arrays.Names()

    def find_class(self, module: str, name: str) -> Any:
        return self._names.stand_in(module, name)

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
        refuse_excess(file)
        return pickled_arrays.real(_Reader(file).load())
    except RefusedError as error:
        raise InputError(
            f"{name} wants to build {error}: a data file has no business to",
            "do not trust this file; get it again from its publisher",
        ) from error
    except MemoryError:
        raise
    # A damaged pickle can fail in any way: wrong opcodes, stack underflow, wrong array shapes.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{name} cannot be read as a pickle: {reason}", "get the file again"
        ) from error
