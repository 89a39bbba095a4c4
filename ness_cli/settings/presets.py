"""Presets: the experiments that come with the package, one YAML file each, a folder a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from ness_cli.errors import InputError, SettingsError, did_you_mean
from ness_cli.settings.values import group

DEFAULT = "digits"
OWN_IMAGES = "images"
"""Where settings start without a preset, with any other source than that of the default."""


def default(command_line: Mapping[str, Any]) -> str:
    """Return the preset for images of one's own where they are meant: the digits have no path."""
    data = group(command_line, "data")
    own = data.get("source", "image-folder" if "path" in data else "digits") != "digits"
    return OWN_IMAGES if own else DEFAULT


def folder() -> Path:
    """Return the folder of the presets: inside an installed package, else beside its checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "presets"
    return installed if installed.is_dir() else package.parent / "presets"


def paths() -> dict[str, Path]:
    """Return the file of every preset, sorted by benchmark and name."""
    found = sorted(folder().glob("*/*.yaml"), key=lambda path: (path.parent.name, path.stem))
    return {path.stem: path for path in found}


def names() -> list[str]:
    """Return the names of all presets, sorted by benchmark and name."""
    return list(paths())


def is_shipped(path: Path) -> bool:
    """Return whether a file is one of the presets that come with the package."""
    return path.parent.parent == folder()


def benchmark_of(path: Path) -> str:
    """Return the benchmark that a shipped preset belongs to: the name of its folder."""
    return path.parent.name


def path_of(preset: str) -> Path:
    """Return the file of a preset given by name or by path.

    Raises:
        SettingsError: If no preset has that name; the message names the nearest one.
        InputError: If it looks like a path and is not there.
    """
    if preset.endswith((".yaml", ".yml")) or "/" in preset:
        path = Path(preset)
        if not path.is_file():
            raise InputError(f"--preset: the file {preset} is not there", "see: ness presets ls")
        return path
    known = paths()
    if preset not in known:
        raise SettingsError(
            f"--preset: unknown preset {preset!r}{did_you_mean(preset, known)}",
            "see: ness presets ls",
        )
    return known[preset]


def head(path: Path) -> tuple[str, str]:
    """Return the first two comment lines of a preset: what it is, and of what on which network."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line.lstrip("# ").strip().rstrip(".") for line in lines if line.startswith("#")]
    first, second, *_ = [*comments, "", ""]
    return first, second


def in_common(heads: Sequence[str]) -> str:
    """Return what the second lines of a benchmark's presets begin with, up to a comma."""
    clauses = zip(*(head.split(", ") for head in heads), strict=False)
    return ", ".join(own[0] for own in takewhile(lambda own: len({*own}) == 1, clauses))
