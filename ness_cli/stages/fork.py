"""Make another run that shares the first steps of a run, and goes on by itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ness_cli.errors import DamagedError, InputError
from ness_cli.extensions import fingerprint_of, read_extensions, read_manifest
from ness_cli.file_kinds import require_file
from ness_cli.files import whole_folder, write_record
from ness_cli.hashing import sha256_of_file, sha256_of_text
from ness_cli.run_dir import RunDir
from ness_cli.run_state import RECORDS, RunState, StepState, command, read_run_record, read_state
from ness_cli.settings.fork import ForkSettings, resolve_fork
from ness_cli.settings.model import Settings
from ness_cli.settings.resolve import build
from ness_cli.settings.stored import with_appended
from ness_cli.stages.context import read_settings
from ness_cli.stages.device import torch_device
from ness_cli.stages.plan import check_fit
from ness_cli.stages.prepare import write_run
from ness_cli.workplace import Workplace


@dataclass(frozen=True)
class Forked:
    """What a fork shares.

    Attributes:
        changed: Keys that differ from the run's.
        shared: The steps that are done already.
        notes: What should be said of its settings.
    """

    changed: tuple[str, ...]
    shared: tuple[StepState, ...]
    notes: tuple[str, ...]


def fork(
    run: RunDir, out: RunDir, overrides: Sequence[str], workplace: Workplace, *, after: int
) -> Forked:
    """Make a run that shares the training of the first tasks of another one.

    Their files are hard links, or copies where the disk has none; steps replace files and never
    write into them. All is made in a folder beside, and one rename puts it into place.

    Args:
        run: The run to share with, locked.
        out: The new run, which is not there yet.
        overrides: ``key=value`` strings.
        workplace: Where and how; its device is the one that will train.
        after: The last task whose training is shared.

    Raises:
        InputError: If the run has no such task, it is not trained, what later tasks need of it is
            not kept, or there is something at ``out``.
        SettingsError: If a setting decides a step that would be shared, or settings do not fit.
        DamagedError: If a file is not what its step wrote.
        SystemRefusedError: If something cannot be written.
    """
    record, state = read_run_record(run), read_state(run)
    if out.path.exists() and any(out.path.iterdir()):
        raise InputError(f"--out: {out.path} is there already", "choose another folder")
    if not 1 <= after <= state.num_tasks:
        raise InputError(f"--after: {after} is not between 1 and {state.num_tasks}")
    own = read_settings(run, record)
    for each in read_extensions(record):
        with_appended(own, each.settings, run.run)
    found = resolve_fork(own.to_dict(), record, overrides, after=after)
    shared = tuple(_shared(state, after, found))
    manifest = read_manifest(run, record)
    check_fit(found.resolved.settings, manifest, torch_device(workplace))
    with whole_folder(out.path) as folder:
        for step in shared:
            _share(run, RunDir(folder), step)
        own_tasks = {**manifest, "tasks": manifest["tasks"][: _num_prepared(record)]}
        forked = _record(run, record, found, shared, after=after)
        write_run(RunDir(folder), found.resolved.settings, own_tasks, forked)
    return Forked(found.changed, shared, found.resolved.notes)


def _shared(state: RunState, after: int, found: ForkSettings) -> Iterator[StepState]:
    """Yield the steps that a fork shares, after checking that it can go on from there."""
    for task in range(1, after + 1):
        train, built, evaluated = (state.of(task, step) for step in ("train", "build", "evaluate"))
        needed = [train] if task == after else [train, built]
        for step in needed:
            if not step.is_done:
                how = f"is stale: {step.why}" if step.why else "has not been done"
                raise InputError(
                    f"--after {after}: {step.step} of task {task} {how}",
                    f"run: {command(state.run.path, step.step, task)}",
                )
        done = [train] if found.changed and task == after else [train, built, evaluated]
        for step in done:
            gone = step.record.get("removed", [])
            if gone and _is_read(step, after, found):
                raise InputError(
                    f"--after {after}: {gone[0]} is not kept (storage.keep=latest), and what comes"
                    " next needs it",
                    "fork after the last task that is done, or a run with storage.keep=all",
                )
            if step.is_done:
                yield step


def _is_read(step: StepState, after: int, found: ForkSettings) -> bool:
    """Return whether a step that is shared leaves what the first own step of a fork reads."""
    is_built_on = bool(found.changed) and (step.task, step.step) == (after - 1, "build")
    return is_built_on or (step.task == after and step.step != "evaluate")


def _share(run: RunDir, other: RunDir, step: StepState) -> None:
    """Give another run the files of a step: verified, and linked where that is possible."""
    removed = step.record.get("removed", [])
    for name, sha256 in step.record["outputs"].items():
        if name in removed:
            continue
        source, remedy = run.path / name, f"run: {command(run.path, step.step, step.task)} --force"
        require_file(source, remedy)
        if sha256_of_file(source) != sha256:
            raise DamagedError(f"{source} is damaged: it is not what was written", remedy)
        _link(source, other.path / name)
    mine, theirs = run.task(step.task), other.task(step.task)
    theirs.path.mkdir(parents=True, exist_ok=True)
    if step.step == "train" and mine.history.exists():
        shutil.copyfile(mine.history, theirs.history)
    write_record(theirs.record(RECORDS[step.step]), dict(step.record))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def _num_prepared(record: Mapping[str, Any]) -> int:
    """Return the number of tasks that a run was prepared with."""
    return int(record["num_tasks"]) - sum(each.num_tasks for each in read_extensions(record))


def _record(
    run: RunDir,
    record: Mapping[str, Any],
    found: ForkSettings,
    shared: Sequence[StepState],
    *,
    after: int,
) -> dict[str, Any]:
    """Return the content of a fork's ``run.json``."""
    settings = found.resolved.settings
    about = {
        "from": str(run.path),
        "after": after,
        "changed": list(found.changed),
        "fingerprints": {
            f"{each.step} {each.task}": fingerprint_of(record, each.task, each.step)
            for each in shared
        },
    }
    made = {
        **record,
        "forked": about,
        "identity": settings.identity(),
        "origins": dict(found.resolved.origins),
        "notes": settings.notes,
        "created": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    }
    if not found.changed:
        return {**made, "identity": record["identity"]}
    parts = [fingerprint_of(record, after, "train"), settings.fingerprint()]
    made["fingerprint"] = sha256_of_text("/".join(parts))
    if "extensions" in record:
        made["extensions"] = list(_extensions(record, settings, made["fingerprint"]))
    return made


def _extensions(
    record: Mapping[str, Any], settings: Settings, fingerprint: str
) -> Iterator[dict[str, Any]]:
    """Yield the extensions of a run with the fingerprints that follow from other settings."""
    plain = settings.to_dict()
    for each in read_extensions(record):
        own = build({**plain, **each.settings}).fingerprint()
        fingerprint = sha256_of_text("/".join([fingerprint, own, each.stream["key"]]))
        yield {**each.entry, "fingerprint": fingerprint}
