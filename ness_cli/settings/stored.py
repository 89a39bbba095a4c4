"""Settings of a run that exists: read back, or put together from what its record knows of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ness_cli.errors import DamagedError, InputError, SettingsError, SystemRefusedError
from ness_cli.file_kinds import require_file
from ness_cli.hashing import sha256_of_text
from ness_cli.settings import yaml_files
from ness_cli.settings.identity import difference
from ness_cli.settings.model import Settings
from ness_cli.settings.resolve import build
from ness_cli.settings.values import flatten, merge, nest
from ness_cli.version import own_version

_TITLE = "# Settings of this run, resolved; run.json says where each value came from.\n"
_SEAL = "# Not to be edited; SHA-256 of what follows: "
_SEALED = re.compile(rf"^{_SEAL}(.*)\n?".encode(), re.MULTILINE)


def read_stored(path: Path, *, remedy: str, made_by: str = "") -> dict[str, Any]:
    """Return the nested plain values in the ``settings.yaml`` of a run.

    Args:
        path: The file.
        remedy: What writes it again, for error messages.
        made_by: The version that wrote it, where that is known.

    Raises:
        InputError: If it is not there, something else is in its place, or another version wrote
            what this one does not know.
        DamagedError: If they are no settings any more.
        SystemRefusedError: If the system does not let it be read.
    """
    require_file(path, remedy)
    try:
        values = yaml_files.read(path)
        build(values)
    except InputError as error:
        if not path.exists():
            raise InputError(f"{path} is missing", remedy) from error
        again = "put it right and run the same command again"
        raise SystemRefusedError(error.what, again) from error
    except SettingsError as error:
        if made_by not in ("", "unknown", own_version()):
            raise InputError(
                f"{path} was written by ness {made_by}, and this is {own_version()}: {error.what}",
                f"go on with ness {made_by}",
            ) from error
        raise DamagedError(f"{path} is damaged: {error.what}", remedy) from error
    return values


def stored_text(settings: Settings) -> str:
    """Return the ``settings.yaml`` of a run, with its own hash above the values."""
    text = yaml_files.dump(settings.to_dict())
    return f"{_TITLE}{_SEAL}{sha256_of_text(text)}\n{text}"


def refuse_edited(path: Path, remedy: str) -> None:
    """Refuse a ``settings.yaml`` that is not as it was written; earlier versions wrote no hash.

    Raises:
        DamagedError: If it is cut off, damaged or edited.
    """
    data = path.read_bytes()
    seal = _SEALED.search(data)
    if seal and hashlib.sha256(data[seal.end() :]).hexdigest().encode() != seal[1]:
        raise DamagedError(
            f"{path} is damaged or was edited by hand: it is not what was written",
            f"{remedy}; it writes the file anew, with what was edited, or is typed behind it as"
            " key=value, where that decides no tensor (checkpoint, storage); others are changed by"
            " fork and extend",
        )


def refuse_changed(
    path: Path, settings: Settings, record: Mapping[str, Any], *, remedy: str
) -> None:
    """Refuse settings that are not those that a run was prepared with.

    Args:
        path: Where they were read.
        settings: They.
        record: The content of ``run.json``.
        remedy: What writes the file again, for error messages.

    Raises:
        InputError: Names each key.
        DamagedError: If it is the run's own, but not as it was written.
    """
    if changed := difference(record["identity"], settings.identity()):
        raise InputError(
            f"{path} was changed after the run was prepared, or run.json is that of another run:"
            f" {'; '.join(changed)}",
            "put the value, or run.json, back; settings of a run are changed by fork and extend,"
            " not in the file, or prepare another run with --out",
        )
    refuse_edited(path, remedy)


def rebuilt(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run whose ``settings.yaml`` is damaged, as nested plain values.

    They are those of ``run.json``. What decides no tensor (checkpoints, storage, who follows the
    run) is as in the file, as long as that says the same of all that does; else it has its default.

    Args:
        path: The file, if it is there.
        record: The content of ``run.json``.

    Raises:
        DamagedError: If ``run.json`` does not tell them.
    """
    values = _known_to(record)
    with suppress(InputError, DamagedError):
        found = build(read_stored(path, remedy=""))
        if not difference(record["identity"], found.identity()):
            for key, value in free_values(found, record).items():
                values = merge(values, nest(key, value))
    return values


def free_values(settings: Settings, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides no tensor of a run and is no default, by key; not where its images lie.

    Args:
        settings: Those of the run.
        record: The content of ``run.json``.
    """
    defaults = dict(flatten(Settings().to_dict()))
    return {
        key: value
        for key, value in flatten(settings.to_dict())
        if key not in record["identity"]
        and not key.startswith(("methods.", "data."))
        and value != defaults.get(key, value)
    }


def _known_to(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``run.json`` knows of its run's settings, as nested plain values."""
    values: dict[str, Any] = {}
    for key, value in record["identity"].items():
        values = merge(values, nest(key, value))
    try:
        data = values["data"]
        located = data.get("sources") or [data]
        for each, place in zip(located, record.get("places", ()), strict=False):
            each.update({} if place is None else {"path": place})
        changed = difference(record["identity"], build(values).identity())
    except (SettingsError, KeyError, TypeError, AttributeError) as error:
        changed = [str(error)]
    if changed:
        raise DamagedError(
            f"settings.yaml cannot be written anew from run.json: {'; '.join(changed)}",
            "put it back as prepare wrote it",
        )
    return values


def with_appended(settings: Settings, own: Mapping[str, Any], path: Path) -> Settings:
    """Return the settings of tasks that were appended to a run.

    Args:
        settings: Those of the run.
        own: Those of the tasks, nested plain values.
        path: Where these were read, ``run.json``.

    Raises:
        DamagedError: If they are no settings any more.
    """
    try:
        return build({**settings.to_dict(), **own})
    except SettingsError as error:
        raise DamagedError(f"{path} is damaged: {error.what}", "put it back") from error
