"""What a pickle will ask memory for, found out before it is loaded.

The loader of pickles takes a program at its word: it makes room for as many bytes as an opcode
declares, and for as many remembered objects as the highest number that one is remembered under.
Arguments are skipped here, not read, so that scanning needs no memory.
"""

from __future__ import annotations

import os
import pickletools
from typing import BinaryIO

_OPCODES = {ord(info.code): info for info in pickletools.opcodes}
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_TWO_LINES = "stringnl_noescape_pair"
_REMEMBER = ("PUT", "BINPUT", "LONG_BINPUT")
_SMALL_INDEX = 255  # what no loader needs much memory for


def refuse_excess(file: BinaryIO) -> None:
    """Refuse a pickle that declares more than it holds, and go back to its beginning.

    Args:
        file: The pickle, from its beginning.

    Raises:
        ValueError: If it is cut short, has unknown opcodes, or remembers an object under a number
            beyond all objects that it can have made.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    count, name = 0, ""
    while name != "STOP":
        code = file.read(1)
        info = _OPCODES.get(code[0]) if code else None
        if info is None:
            raise ValueError(f"unknown opcode {code!r}" if code else "it is cut short")
        name, count = info.name, count + 1
        if info.arg is None:
            continue
        argument = _argument(file, info.arg, size)
        if name in _REMEMBER:
            index = int(argument) if name == "PUT" else int.from_bytes(argument, "little")
            if index > max(count, _SMALL_INDEX):
                raise ValueError(f"it numbers an object {index} of {count} at most")
        elif name == "FRAME" and int.from_bytes(argument, "little") > size - file.tell():
            raise ValueError("it declares more than it holds")
    file.seek(0)


def _argument(file: BinaryIO, kind: pickletools.ArgumentDescriptor, size: int) -> bytes:
    """Return an argument, empty if it is text or bytes of declared length, which are skipped."""
    if kind.n == pickletools.UP_TO_NEWLINE:
        lines = [file.readline() for _ in range(2 if kind.name == _TWO_LINES else 1)]
        if not lines[-1].endswith(b"\n"):
            raise ValueError("it is cut short")
        return lines[0]
    width = _LENGTH_BYTES.get(kind.n, kind.n)
    argument = file.read(width)
    if len(argument) < width:
        raise ValueError("it is cut short")
    if kind.n not in _LENGTH_BYTES:
        return argument
    length = int.from_bytes(argument, "little")
    if length > size - file.tell():
        raise ValueError("it declares more than it holds")
    file.seek(length, os.SEEK_CUR)
    return b""
