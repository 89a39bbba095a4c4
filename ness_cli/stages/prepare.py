"""Prepare a run: settings resolved, task stream in the cache, identity on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ness_cli.console import Progress
from ness_cli.data.prepare import prepare as prepare_data
from ness_cli.data.prepare import prepared as prepared_data
from ness_cli.data.stream_notes import stream_notes
from ness_cli.engine.stop import StopRequest
from ness_cli.errors import InputError
from ness_cli.nets.pretrained import Pretrained, fetch
from ness_cli.run_dir import RunDir, write_bytes, write_json
from ness_cli.run_state import read_run_record
from ness_cli.settings import yaml_files
from ness_cli.settings.identity import difference
from ness_cli.settings.resolve import Resolved, Settings
from ness_cli.stages.context import StoppableProgress, run_log
from ness_cli.stages.plan import check_fit
from ness_cli.stages.step_record import versions


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` found or made.

    Attributes:
        about: The content of ``run.json``.
        manifest: The content of ``stream.json``.
        was_there: Whether the run had been prepared before.
    """

    about: Mapping[str, Any]
    manifest: Mapping[str, Any]
    was_there: bool


def prepare(
    run: RunDir, resolved: Resolved, cache: Path, progress: Progress, stop: StopRequest
) -> Prepared:
    """Prepare a run, or check that it was prepared with the same settings.

    Prepared images that are gone from the cache are made again. Settings that are no part of a
    run's identity (checkpoints, storage, scenario) take their new values.

    Args:
        run: The run folder, locked.
        resolved: Its settings and their origins.
        cache: Folder of prepared data, shared by runs.
        progress: Told what is going on.
        stop: Asked whether to stop, with every download, image and task.

    Raises:
        SettingsError: If the settings do not fit each other or the data.
        InputError: If the images cannot be read, or the run was prepared with other settings.
        SystemRefusedError: If something cannot be written.
        StoppedError: If a stop was requested; nothing half made is left.
    """
    settings = resolved.settings
    progress = StoppableProgress(progress, stop, "preparing starts over", "the same command")
    was_there = run.run.exists()
    if was_there:
        about = read_run_record(run)
        changed = difference(about["identity"], settings.identity())
        if changed:
            raise InputError(
                f"{run.path} was prepared with other settings: {'; '.join(changed)}",
                "choose another --out, or delete the folder",
            )
    with run_log(run, "prepare"):
        # A run that was prepared before needs its cache only; the source may be gone by now.
        there = prepared_data(cache, about["stream_key"]) if was_there else None
        manifest = there or prepare_data(settings.stream, cache, progress)
        if was_there and about["stream_key"] != manifest["key"]:
            raise InputError(
                f"{run.path} was prepared from other images than those at hand now",
                "put the old images back, or choose another --out",
            )
        check_fit(settings, manifest)
        for note in () if was_there else stream_notes(manifest):
            progress.note(note)
        weights = _pretrained(
            settings, about.get("pretrained") if was_there else None, cache, progress
        )
        parts = [settings.fingerprint(), manifest["key"], *(weights or {}).values()]
        fingerprint = hashlib.sha256("/".join(parts).encode()).hexdigest()
        if not was_there:
            about = {
                "schema": "ness.run/1",
                "fingerprint": fingerprint,
                "identity": settings.identity(),
                "preset": resolved.preset,
                "method": settings.method.name,
                "seed": settings.seed,
                "num_tasks": len(manifest["tasks"]),
                "stream_key": manifest["key"],
                "content": manifest["content"],
                "pretrained": weights,
                "origins": dict(resolved.origins),
                "notes": settings.notes,
                "versions": versions(),
                "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
        header = "# Settings of this run, resolved; run.json says where each value came from.\n"
        text = yaml_files.dump(settings.to_dict())
        write_bytes(run.settings, (header + text).encode())
        write_json(run.stream, manifest)
        write_json(run.run, about)
    return Prepared(about, manifest, was_there)


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
