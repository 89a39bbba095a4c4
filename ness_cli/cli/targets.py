"""From --preset, --out, --seed, --seeds and key=value to run folders and their settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path

from ness_cli.console import Console
from ness_cli.errors import DamagedError, InputError, SettingsError
from ness_cli.extensions import way_to_prepare
from ness_cli.file_kinds import require_file
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_run_record
from ness_cli.settings import yaml_files
from ness_cli.settings.precedence import parse_overrides
from ness_cli.settings.resolve import Resolved, build, resolve, resolve_again
from ness_cli.settings.stored import (
    free_values,
    read_stored,
    rebuilt,
    refuse_changed,
    refuse_edited,
)
from ness_cli.settings.values import flatten


@dataclass(frozen=True)
class Target:
    """A run to prepare or to continue."""

    run: RunDir
    resolved: Resolved


def show_notes(found: Sequence[Target], console: Console) -> None:
    """Say once what should be said of how the settings of all runs came about."""
    for note in dict.fromkeys(note for target in found for note in target.resolved.notes):
        console.note(note)


def targets(
    preset: str | None,
    out: Path | None,
    *,
    seed: int | None,
    seeds: str | None,
    overrides: Sequence[str],
    may_rebuild: bool = False,
) -> list[Target]:
    """Return the runs that a command line means, one per seed.

    On an existing run an omitted preset means the run's own settings; a new seed beside existing
    ones takes theirs.

    Args:
        preset: Name or file, if one was typed.
        out: Folder of the run, or of several seeds.
        seed: The only seed.
        seeds: Several, as typed.
        overrides: ``key=value`` strings.
        may_rebuild: Put the settings of a run whose ``settings.yaml`` is damaged, or gone, together
            from its ``run.json``, or go by ``settings.yaml`` where that is gone.

    Raises:
        SettingsError: If the settings are wrong, or the seeds given contradict each other.
        InputError: If a named file is not there.
        DamagedError: If a file of a run does not read back.
    """
    _refuse_two_seeds(seed, seeds, overrides)
    children = _seed_runs(out) if out is not None else []
    is_parent = out is not None and bool(children) and not (out / "run.json").exists()
    if is_parent and seeds is None and seed is None:
        seeds = ",".join(child.name.removeprefix("seed-") for child in children)
    if seeds is None:
        resolved = _resolved(preset, out, seed, overrides, may_rebuild=may_rebuild)
        return [Target(RunDir(out or _default_out(resolved, with_seed=True)), resolved)]
    found = []
    for number in parse_seeds(seeds):
        own = None if out is None else out / f"seed-{number}"
        like = (
            own if own is not None and (own / "run.json").exists() else next(iter(children), None)
        )
        resolved = _resolved(preset, like, number, overrides, may_rebuild=may_rebuild)
        parent = out or _default_out(resolved, with_seed=False)
        found.append(Target(RunDir(parent / f"seed-{number}"), resolved))
    return found


def refuse_options(overrides: Sequence[str], command: Callable[..., None]) -> None:
    """Refuse an option of a command that was typed like a setting: ``device=cpu``.

    Raises:
        SettingsError: If there is one; says how to type it.
    """
    options = signature(command).parameters
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.replace("-", "_")
        if name in options and name not in ("overrides", "seed"):
            option = f"--{name.replace('_', '-')}"
            is_flag = isinstance(options[name].default, bool)
            remedy = f"it is an option: {option if is_flag else f'{option} {value}'}"
            raise SettingsError(f"{override} is no setting", remedy)


def _refuse_two_seeds(seed: int | None, seeds: str | None, overrides: Sequence[str]) -> None:
    """Refuse a seed that is given in two ways, unless both say the same.

    Raises:
        SettingsError: If they contradict.
    """
    if seed is not None and seeds is not None:
        raise SettingsError("--seed and --seeds exclude each other", "leave one of them out")
    setting = parse_overrides(overrides).get("seed")
    option = f"--seed {seed}" if seeds is None else f"--seeds {seeds}"
    wanted = [seed] if seeds is None else parse_seeds(seeds)
    if setting is not None and wanted not in ([None], [setting]):
        raise SettingsError(f"{option} and seed={setting} contradict", "leave one of them out")


def _resolved(
    preset: str | None,
    like: Path | None,
    seed: int | None,
    overrides: Sequence[str],
    *,
    may_rebuild: bool,
) -> Resolved:
    """Resolve from a preset, or where none is given from an existing run."""
    if may_rebuild and preset is None and like is not None and _lost_its_record(RunDir(like)):
        return _without_record(like / "settings.yaml", seed, overrides)
    if preset is None and like is not None and (like / "run.json").exists():
        run = RunDir(like)
        record, remedy = read_run_record(run), way_to_prepare(run.path)
        require_file(run.settings, remedy)
        try:
            made_by = str(record.get("versions", {}).get("ness", ""))
            stored = read_stored(run.settings, remedy=remedy, made_by=made_by)
            refuse_changed(run.settings, build(stored), record, remedy=remedy)
        except (DamagedError, InputError) as error:
            is_gone = isinstance(error, DamagedError) or not run.settings.exists()
            if not (may_rebuild and is_gone):
                raise
            values = rebuilt(run.settings, record)
            found = resolve_again(values, record, overrides, seed)
            free = free_values(found.settings, record).items()
            own = " ".join(f"{key}={yaml_files.typed(value)}" for key, value in free) or "defaults"
            note = f"{error.what}; what decides tensors is taken from run.json, the rest: {own}"
            return replace(found, notes=(*found.notes, note))
        return resolve_again(stored, record, overrides, seed)
    return resolve(preset, overrides, seed)


def _without_record(path: Path, seed: int | None, overrides: Sequence[str]) -> Resolved:
    """Resolve from the settings of a folder without ``run.json``.

    A preparation that did not come to its end may have been typed as this one: what is typed, and
    not the file, knows then where values come from.
    """
    remedy = "name the preset that it was made with"
    stored = read_stored(path, remedy=remedy)
    refuse_edited(path, remedy)
    about = {"origins": {key: path.name for key, _ in flatten(stored)}, "preset": path.name}
    found = resolve_again(stored, about, overrides, seed)
    with suppress(SettingsError):
        typed = resolve(None, overrides, seed)
        return typed if typed.settings == found.settings else found
    return found


def _lost_its_record(run: RunDir) -> bool:
    """Return whether a folder is a run but for ``run.json``."""
    return not run.run.exists() and run.settings.exists()


def _default_out(resolved: Resolved, *, with_seed: bool) -> Path:
    name = f"{resolved.preset}-{resolved.settings.method.name}"
    return Path("runs") / (f"{name}-s{resolved.settings.seed}" if with_seed else name)


def _seed_runs(parent: Path) -> list[Path]:
    runs = [path.parent for path in parent.glob("seed-*/run.json")]
    return sorted(runs, key=lambda path: (len(path.name), path.name))


def parse_seeds(text: str) -> list[int]:
    """Return the seeds in ``1,2,3``.

    Raises:
        SettingsError: If it is no such list, or names one twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise SettingsError(f"--seeds: {text!r} is not a list of whole numbers like 1,2,3")
    numbers = [int(part) for part in parts]
    if len(set(numbers)) < len(numbers):
        raise SettingsError(f"--seeds: {text!r} names a seed twice")
    return numbers
