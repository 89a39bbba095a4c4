"""Prepare a run: settings resolved, task stream in the cache, identity on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from ness_cli import record_shapes
from ness_cli.console import Progress
from ness_cli.data.store import prepare as prepare_data
from ness_cli.data.store import prepared as prepared_data
from ness_cli.data.stream_notes import stream_notes
from ness_cli.data.stream_plan import content_hashes
from ness_cli.errors import DamagedError, InputError, MissingFilesError
from ness_cli.extensions import STREAM, read_extensions, way_to_prepare
from ness_cli.files import read_json, write_bytes, write_record
from ness_cli.hashing import sha256_of_text
from ness_cli.memory import short_of_memory
from ness_cli.nets.pretrained import Pretrained, fetch
from ness_cli.run_dir import RunDir
from ness_cli.run_state import (
    RECORDS,
    RUN,
    STEPS,
    read_record,
    read_run_record,
    require_same_run,
)
from ness_cli.settings.identity import difference
from ness_cli.settings.model import Settings
from ness_cli.settings.resolve import Resolved
from ness_cli.settings.sources.base import DataSettings
from ness_cli.settings.stored import stored_text
from ness_cli.stages.appended_images import are_needed, prepare_appended
from ness_cli.stages.context import run_log
from ness_cli.stages.device import torch_device
from ness_cli.stages.plan import check_fit
from ness_cli.stages.source_check import Origin, checked
from ness_cli.stages.step_record import versions
from ness_cli.stages.tracking import refuse_missing
from ness_cli.workplace import StoppableProgress, Workplace

SMALLER_DATA = "make the images smaller (data.size) or fewer (data.limit_per_class, data.num_tasks)"
"""What helps where images do not fit into memory."""


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` found or made.

    Attributes:
        record: The content of ``run.json``.
        manifest: The content of ``stream.json``.
        was_there: Whether the run had been prepared before.
        was_compared: Whether the files of the images were looked at, and are those of the run.
    """

    record: Mapping[str, Any]
    manifest: Mapping[str, Any]
    was_there: bool
    was_compared: bool


def prepare(
    run: RunDir, resolved: Resolved, workplace: Workplace, *, verify_data: bool = False
) -> Prepared:
    """Prepare a run, or check that it was prepared with the same settings and from the same files.

    Prepared images that are gone from the cache are made again. Settings that are no part of a
    run's identity (checkpoints, storage, scenario) take their new values; so does the place of the
    images, once the files there are known to be the same.

    Args:
        run: The run folder, locked.
        resolved: Its settings and their origins.
        workplace: Where and how; its device is the one that will train, and it is asked whether to
            stop with every download, image and task.
        verify_data: Look at the files again although their place is the same.

    Raises:
        SettingsError: If the settings do not fit each other or the data, or a program that is to
            follow the run is not installed.
        InputError: If the images cannot be read, or the run was prepared with other settings or
            from other files; or if the folder was deleted or replaced meanwhile.
        DamagedError: If a file of a run that was prepared does not read back.
        SystemRefusedError: If something cannot be written.
        StoppedError: If a stop was requested; nothing half made is left.
    """
    refuse_missing(resolved.settings.track)
    device, what = torch_device(workplace), "preparing starts over"
    progress = StoppableProgress(workplace.progress, workplace.stop, what, "the same command")
    if not run.run.exists():
        return _prepare_anew(run, resolved, workplace.cache, device, progress)
    record = read_run_record(run)
    changed = difference(record["identity"], resolved.settings.identity())
    if changed:
        raise InputError(
            f"{run.path} was prepared with other settings: {'; '.join(changed)}",
            "choose another --out, or delete the folder",
        )
    cache, extensions = workplace.cache, read_extensions(record)
    with run_log(run, "prepare"), short_of_memory(SMALLER_DATA):
        origin = Origin(run, record)
        settings, was_compared = resolved.settings, True
        try:
            stored, gone = prepared_data(cache, record["stream_key"]), "they are not in the cache"
        except DamagedError as error:
            stored, gone = None, error.what
        if stored is not None:
            manifest = stored
            settings, was_compared = checked(resolved, origin, progress, everything=verify_data)
        else:
            manifest, was_compared = _made_again(settings, origin, cache, progress, gone)
        check_fit(settings, manifest, device)
        _pretrained(settings, record.get("pretrained"), cache, progress)
        for extension in extensions:
            prepare_appended(run, extension, settings, cache, progress, verify_data=verify_data)
        if was_compared:
            record["places"] = settings.stream.locations()
        require_same_run(run, record)
        write_run(run, settings, manifest, record)
    tasks = [*manifest["tasks"], *(task for each in extensions for task in each.tasks())]
    return Prepared(record, {**manifest, "tasks": tasks}, was_there=True, was_compared=was_compared)


def _prepare_anew(
    run: RunDir, resolved: Resolved, cache: Path, device: torch.device, progress: Progress
) -> Prepared:
    """Prepare a run that is not there."""
    settings = resolved.settings
    with run_log(run, "prepare"), short_of_memory(SMALLER_DATA):
        manifest = prepare_data(settings.stream, cache, progress)
        check_fit(settings, manifest, device)
        for note in stream_notes(manifest):
            progress.note(note)
        record = _record(resolved, manifest, _pretrained(settings, None, cache, progress))
        _refuse_a_place_taken(run)
        _refuse_other_steps(run, record)
        write_run(run, settings, manifest, record)
    return Prepared(record, manifest, was_there=False, was_compared=True)


def _refuse_a_place_taken(run: RunDir) -> None:
    """Refuse to make a run in a folder that was deleted while its images were prepared.

    Raises:
        InputError: If it is gone, or another process has made a run there since.
    """
    if run.run.exists() or not run.path.is_dir():
        how = "holds another run now" if run.run.exists() else "is gone"
        raise InputError(
            f"{run.path} {how}: it was deleted while its images were prepared",
            "type the same command again: they are in the cache",
        )


def _refuse_other_steps(run: RunDir, record: Mapping[str, Any]) -> None:
    """Refuse to make a run in a folder with steps of another one, which has lost its ``run.json``.

    Raises:
        InputError: If there are some.
    """
    steps = ((t, step) for t in range(1, record["num_tasks"] + 1) for step in STEPS)
    for task, step in steps:
        if (
            read_record(run, task, step).get("fingerprint", record["fingerprint"])
            != (record["fingerprint"])
        ):
            raise InputError(
                f"{run.run} is missing, and {run.task(task).record(RECORDS[step])} is that of a run"
                " with other settings, or one that was extended or forked",
                f"put it back; or, if the run was neither, {way_to_prepare(run.path)}",
            )


def _made_again(
    settings: Settings, origin: Origin, cache: Path, progress: Progress, gone: str
) -> tuple[dict[str, Any], bool]:
    """Prepare images again, unless their files are gone and others came after them.

    Returns:
        The manifest, and whether files were compared with those of the run.
    """
    try:
        return _prepare_again(settings.stream, origin, cache, progress, gone), True
    except MissingFilesError as error:
        run, extensions = origin.run, read_extensions(origin.record)
        if not extensions or are_needed(run, settings, extensions[0].first_task - 1):
            raise
        progress.note(f"{error.what}; {run.path} goes on without them")
        shape, remedy = record_shapes.STREAM, "put the files back"
        return read_json(run.stream, remedy=remedy, schema=STREAM, shape=shape), False


def _prepare_again(
    data: DataSettings, origin: Origin, cache: Path, progress: Progress, gone: str
) -> dict[str, Any]:
    """Prepare the images of a run that are not in the cache, from the files they came from.

    Raises:
        InputError: If the files are missing or others; the message says why they are needed.
    """
    try:
        contents = content_hashes(data.datasets(), progress)
    except MissingFilesError as error:
        raise MissingFilesError(
            f"{error.what}; the images of {origin.run.path} must be prepared again: {gone}",
            error.remedy,
            can_download=error.can_download,
        ) from error
    origin.refuse_others(data, dict(enumerate(contents)))
    key = origin.record["stream_key"]
    return prepare_data(data, cache, progress, contents=contents, key=key)


def _record(
    resolved: Resolved, manifest: Mapping[str, Any], weights: dict[str, str] | None
) -> dict[str, Any]:
    """Return the content of ``run.json``."""
    settings = resolved.settings
    parts = [settings.fingerprint(), manifest["key"]]
    if weights is not None:
        parts += [weights["file"], weights["sha256"]]
    return {
        "schema": RUN,
        "fingerprint": sha256_of_text("/".join(parts)),
        "identity": settings.identity(),
        "preset": resolved.preset,
        "method": settings.method.name,
        "seed": settings.seed,
        "num_tasks": len(manifest["tasks"]),
        "stream_key": manifest["key"],
        "content": manifest["content"],
        "contents": manifest["contents"],
        "places": settings.stream.locations(),
        "pretrained": weights,
        "origins": dict(resolved.origins),
        "notes": settings.notes,
        "versions": versions(),
        "created": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    }


def write_run(
    run: RunDir, settings: Settings, manifest: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Write what makes a folder a run; ``run.json``, the last file, decides."""
    write_bytes(run.settings, stored_text(settings).encode())
    write_record(run.stream, manifest)
    write_record(run.run, record)


def _pretrained(
    settings: Settings, known: dict[str, str] | None, cache: Path, progress: Progress
) -> dict[str, str] | None:
    """Return file and hash of the weights that the run starts from, made sure to be in the cache.

    Raises:
        InputError: If they are not those that the run was prepared with.
    """
    if known is not None and Pretrained(**known).is_in(cache):
        return known
    found = fetch(settings.net, cache, progress)
    weights = None if found is None else asdict(found)
    if known is not None and weights != known:
        raise InputError(
            "net.pretrained: the weights are not those that the run was prepared with",
            "put the old file back, or choose another --out",
        )
    return weights
