"""Names of the rows of a study: folders beside the study's own files, on whatever disk."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_NAME = re.compile(r"[\w(][\w.,=+()-]*")
_NO_NAME = re.compile(r"[^\w.,=+()-]+")
_MOST_BYTES = 255  # of a name, on nearly every file system
_OWN = re.compile(
    r"study\.(json|yaml)|search\.journal.*|(chosen|trials|test|table)\.\w+|plots|seed-\d+(\..*)?"
)


def problems_of_names(names: Iterable[str]) -> dict[str, str]:
    """Return what is wrong with names that cannot be folders, or are one folder on some disks."""
    known: dict[str, str] = {}
    found = {}
    for name in names:
        other = known.setdefault(_folded(name), name)
        problem = _problem(name)
        if problem is None and other != name:
            problem = f"a disk may take {name!r} and {other!r} for one folder; rename one of them"
        if problem is not None:
            found[name] = problem
    return found


def _problem(name: str) -> str | None:
    if not _NAME.fullmatch(name):
        return f"{name!r} should be a folder's name: letters, digits and . , = + ( ) - _"
    if (size := len(name.encode())) > _MOST_BYTES:
        return f"a folder's name has {_MOST_BYTES} bytes at most, not {size}; choose a shorter one"
    if name.endswith("."):
        return f"{name!r} ends with a dot, which some disks drop; leave it out"
    if _OWN.fullmatch(_folded(name)):
        return f"{name!r} is what a study calls a file or folder of its own; choose another name"
    return None


def _folded(name: str) -> str:
    """Return what names have in common that some disks take for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def joined(parts: Iterable[str]) -> str:
    """Return parts of a name as one; empty ones are left out."""
    return ",".join(filter(None, parts))


def short(assignment: str) -> str:
    """Return a setting as part of a folder's name: ``strength=500``; of a method just its name."""
    key, _, value = assignment.partition("=")
    last = key.rpartition(".")[2]
    text = value if last in ("name", "source") else f"{last}={value}"
    return _NO_NAME.sub("_", text).strip("_")
