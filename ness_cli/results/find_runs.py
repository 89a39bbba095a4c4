"""Runs below the folders that a user names, at any depth."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ness_cli.errors import InputError, did_you_mean

_REMEDY = "name a run, or a folder with runs below it; ness run --out DIR makes one"


@dataclass
class Found:
    """What lies below some folders.

    Attributes:
        runs: The run folders, each once, in the order of the folders and of their names.
        notes: A line for everything that was named and holds no run, or could not be read.
    """

    runs: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_runs(paths: Iterable[Path]) -> Found:
    """Return the runs that are named, or lie below what is named.

    What lies inside a run is never entered. Links are followed; whatever several names lead to
    counts once, so that links in a circle end.

    Raises:
        InputError: If a path does not exist, or there is no run at all.
    """
    found, seen, named = Found(), set[Path](), list(paths)
    for path in named:
        if not path.exists():
            raise InputError(f"{path} is not a run: there is no such folder{_near(path)}", _REMEDY)
        if path.resolve() in seen:
            continue
        runs, notes = len(found.runs), len(found.notes)
        if (path / "settings.yaml").is_file() and not is_run(path):
            found.runs.append(path)  # it has lost its identity: its reader says so
            continue
        _add_below(path, found, seen)
        if (len(found.runs), len(found.notes)) == (runs, notes):
            found.notes.append(f"{path} is left out: there is no run in it")
    if not found.runs:
        listed = ", ".join(map(str, named))
        raise InputError(f"{listed} is not a run, and there is none below", _REMEDY)
    return found


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run: ``prepare`` has written its identity."""
    return (folder / "run.json").is_file()


def _add_below(folder: Path, found: Found, seen: set[Path]) -> None:
    """Add the runs in a folder to what was found, and the folder to those that were seen."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    if is_run(folder):
        found.runs.append(folder)
        return
    try:
        names = _folders_in(folder) if folder.is_dir() else []
    except OSError as error:
        found.notes.append(f"{folder} is left out: {error.strerror}")
        return
    for name in sorted(names, key=_natural):
        _add_below(folder / name, found, seen)


def _folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, and of links to folders; no hidden ones."""
    with os.scandir(folder) as entries:
        return [each.name for each in entries if each.is_dir() and not each.name.startswith(".")]


def _near(path: Path) -> str:
    return did_you_mean(path.name, _folders_in(path.parent)) if path.parent.is_dir() else ""


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that puts ``seed-2`` before ``seed-10``."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
