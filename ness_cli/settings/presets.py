"""Presets: the experiments that come with the package, one YAML file each."""

from __future__ import annotations

from pathlib import Path

from ness_cli.errors import InputError, SettingsError, did_you_mean

DEFAULT = "digits"


def folder() -> Path:
    """Return the folder of the presets: inside an installed package, else beside its checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "presets"
    return installed if installed.is_dir() else package.parent / "presets"


def names() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


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
    if preset not in names():
        raise SettingsError(
            f"--preset: unknown preset {preset!r}{did_you_mean(preset, names())}",
            "see: ness presets ls",
        )
    return folder() / f"{preset}.yaml"


def summary(path: Path) -> str:
    """Return the first comment line of a preset: what it is, in one line."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").strip()
    return ""
