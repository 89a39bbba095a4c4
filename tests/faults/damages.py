"""Ways to damage a file: a bit of every kind of byte, its length, and what lies in its place."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# Where the bytes of a kind are, by what files end with; the first group of a match, if it has one.
_JSON = {
    "key": rb'"(\w+)":',
    "number": rb": (-?\d+[.]?\d*)",
    "text": rb': "([^"]+)"',
    "punctuation": rb'([{}\[\]:,"])',
    "white space": rb"([ \n])",
}
_CLASSES: Mapping[str, Mapping[str, bytes]] = {
    ".json": _JSON,
    ".jsonl": _JSON,
    ".journal": {
        "key": rb'"(\w+)":',
        "number": rb":(-?\d+[.]?\d*)",
        "text": rb':"([^"]+)"',
        "punctuation": rb'([{}\[\]:,"])',
    },
    ".yaml": {
        "key": rb"(\w+):",
        "number": rb": (\d+[.]?\d*)\n",
        "text": rb": ([a-z]+)\n",
        "comment": rb"# ([^\n]*)",
        "white space": rb"([ \n])",
    },
    ".safetensors": {
        "identity": rb'\\"(?:run|stream|kind)\\": \\"(\w+)',
        "task of the identity": rb'\\"task\\": (\d+)',
        "name of a tensor": rb'"([^"{}]+)":[{]"dtype"',
        "type of a tensor": rb'"dtype":"(\w+)"',
        "shape of a tensor": rb'"shape":\[(\d+)',
        "place of a tensor": rb'"data_offsets":\[(\d+,\d+)\]',
    },
}
_LENGTH_BYTES = 8


@dataclass(frozen=True)
class Damage:
    """Something that is done to a file.

    Attributes:
        name: Its class, as tables call it.
        apply: Does it; called with the path, which holds the whole file.
    """

    name: str
    apply: Callable[[Path], object]


def damages(path: Path, twins: Mapping[str, Path], rng: random.Random) -> Iterator[Damage]:
    """Yield all damages of a file: two bits of every class of bytes, drawn by chance.

    Args:
        path: The file, whole.
        twins: Files of the same name from elsewhere, by where that is.
        rng: Draws bytes and bits.
    """
    data = path.read_bytes()
    for name, places in _places(path.suffix, data).items():
        for place in rng.sample(places, min(2, len(places))):
            yield Damage(f"bit of {name}", partial(_flip, place=place, bit=rng.randrange(8)))
    for name, end in (("emptied", 0), ("half of it gone", len(data) // 2), ("cut by a byte", -1)):
        yield Damage(name, partial(_write, data=data[:end]))
    yield Damage("a byte appended", partial(_write, data=data + b"\0"))
    yield Damage("itself appended", partial(_write, data=data + data))
    for name, twin in twins.items():
        yield Damage(f"that of another {name}", partial(_write, data=twin.read_bytes()))
    yield from (Damage(name, replace) for name, replace in _REPLACED.items())


def _places(suffix: str, data: bytes) -> dict[str, list[int]]:
    """Return where bytes are, by their class."""
    found: dict[str, list[int]] = {}
    head, body = data, len(data)
    if suffix == ".safetensors":
        body = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
        head = data[:body]
        text = len(head.rstrip(b" "))
        found["the header's length"] = list(range(_LENGTH_BYTES))
        found["padding"] = list(range(text, body))
        found["tensors"] = list(range(body, len(data)))
    for name, pattern in _CLASSES.get(suffix, {"anything": rb"(?s)(.)"}).items():
        spans = (match.span(1) for match in re.finditer(pattern, head))
        found[name] = [place for span in spans for place in range(*span)]
    return {name: places for name, places in found.items() if places}


def _flip(path: Path, *, place: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    _write(path, data=bytes(data))


def _write(path: Path, *, data: bytes) -> None:
    """Write as a failing disk would: the time of change stays, as does every other name."""
    before = path.stat()
    path.unlink()  # a hard link elsewhere is another file
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("of somebody else")


def _a_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


_REPLACED: Mapping[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "a folder in its place": _a_folder,
    "a link to nothing": partial(_a_link, target="nowhere"),
    "a link to itself": lambda path: _a_link(path, path.name),
    "a fifo in its place": _a_fifo,
}


def clear(path: Path) -> None:
    """Remove what is in the place of a file, as a user does who is told to remove it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
