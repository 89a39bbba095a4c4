"""Append tasks to a run, and take back those of which nothing was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ness_cli.data.store import prepare as prepare_data
from ness_cli.data.stream_manifest import plan
from ness_cli.data.stream_notes import stream_notes
from ness_cli.errors import InputError, SettingsError
from ness_cli.extensions import (
    fingerprint_of,
    numbered,
    read_extensions,
    read_manifest,
)
from ness_cli.files import write_record
from ness_cli.hashing import sha256_of_text
from ness_cli.memory import short_of_memory
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_run_record, read_state, require_same_run
from ness_cli.settings.extension import ExtensionSettings, Learned, resolve_extension
from ness_cli.settings.sources.base import DatasetSettings
from ness_cli.stages.context import read_settings, run_log
from ness_cli.stages.device import torch_device
from ness_cli.stages.plan import check_fit
from ness_cli.stages.prepare import SMALLER_DATA
from ness_cli.words import counted, few
from ness_cli.workplace import StoppableProgress, Workplace


@dataclass(frozen=True)
class Extended:
    """What was appended to a run, or would be.

    Attributes:
        manifest: The stream of the new tasks, numbered as in the run.
        typed: What was typed for them.
        notes: What a user should know of them.
    """

    manifest: Mapping[str, Any]
    typed: tuple[str, ...]
    notes: tuple[str, ...]


def plan_extension(
    run: RunDir, preset: str | None, overrides: Sequence[str], workplace: Workplace
) -> Extended:
    """Return what ``extend`` would append, as far as listings tell, writing nothing.

    Raises:
        SettingsError: As ``extend`` does.
        InputError: As ``extend`` does.
    """
    record = read_run_record(run)
    before = read_manifest(run, record)
    found = _resolved(run, record, before, preset, overrides)
    added = _joined(plan(found.settings.stream), before, found)
    _check(found, added, before, workplace)
    return Extended(added, found.typed, _notes(found, added, before))


def extend(
    run: RunDir, preset: str | None, overrides: Sequence[str], workplace: Workplace
) -> Extended:
    """Append tasks to a run, whether or not those before are finished.

    Their images go to the cache; then ``run.json`` is replaced, and only this decides.

    Args:
        run: The run folder, locked.
        preset: Name or file of a preset whose data the tasks come from.
        overrides: ``key=value`` strings.
        workplace: Where and how.

    Raises:
        SettingsError: If a setting belongs to the whole run, or settings do not fit each other, the
            data or the run: images of another shape, other classes under a shared head.
        InputError: If the folder is no run, or not the same when the images are prepared, or images
            cannot be read.
        DamagedError: If a file of the run does not read back.
        SystemRefusedError: If something cannot be written.
        StoppedError: If a stop was requested; the run is as it was then.
    """
    record = read_run_record(run)
    read_state(run)  # nothing is appended to a run whose records do not read back
    before = read_manifest(run, record)
    found = _resolved(run, record, before, preset, overrides)
    progress = StoppableProgress(
        workplace.progress, workplace.stop, "extending starts over", "the same command"
    )
    with run_log(run, f"extend {' '.join(found.typed)}"), short_of_memory(SMALLER_DATA):
        stream = prepare_data(found.settings.stream, workplace.cache, progress)
        added = _joined(stream, before, found)
        _check(found, added, before, workplace)
        entry = _entry(found, added, record)
        total = record["num_tasks"] + len(added["tasks"])
        extensions = [*record.get("extensions", ()), entry]
        require_same_run(run, record)
        write_record(run.run, {**record, "extensions": extensions, "num_tasks": total})
    return Extended(added, found.typed, _notes(found, added, before))


def take_back(run: RunDir) -> tuple[int, ...]:
    """Take back the tasks of the last extension of which nothing was trained.

    Args:
        run: The run folder, locked.

    Returns:
        Their numbers, as they were.

    Raises:
        InputError: If the folder is no run, nothing was appended, or all of it was begun.
    """
    record = read_run_record(run)
    read_state(run)  # likewise
    extensions = read_extensions(record)
    if not extensions:
        raise InputError(f"{run.path} was not extended: there is nothing to take back")
    last = extensions[-1]
    begun = [t for t in range(last.first_task, last.last_task + 1) if _is_begun(run, t)]
    first = max(begun, default=last.first_task - 1) + 1
    gone = tuple(range(first, last.last_task + 1))
    if not gone:
        raise InputError(
            f"{run.path}: training of task {last.last_task}, the last one, has begun; only tasks of"
            " which nothing was trained can be taken back"
        )
    kept = [{**last.entry, "num_tasks": first - last.first_task}] if begun else []
    with run_log(run, f"extend --undo, tasks {gone[0]} to {gone[-1]}"):
        entries = [*record["extensions"][:-1], *kept]
        num_tasks = record["num_tasks"] - len(gone)
        write_record(run.run, {**record, "extensions": entries, "num_tasks": num_tasks})
    return gone


def _is_begun(run: RunDir, task_number: int) -> bool:
    folder = run.task(task_number).path
    return folder.is_dir() and any(folder.iterdir())


def _resolved(
    run: RunDir,
    record: Mapping[str, Any],
    before: Mapping[str, Any],
    preset: str | None,
    overrides: Sequence[str],
) -> ExtensionSettings:
    extensions = read_extensions(record)
    own = record["num_tasks"] - sum(each.num_tasks for each in extensions)
    first = before["tasks"][0]
    return resolve_extension(
        read_settings(run, record).to_dict(),
        preset,
        overrides,
        Learned(
            channels=before["image_shape"][0],
            mean=tuple(first["mean"]),
            std=tuple(first["std"]),
            taken=own + sum(each.num_tasks for each in extensions if each.continues),
        ),
    )


def _joined(
    stream: Mapping[str, Any], before: Mapping[str, Any], found: ExtensionSettings
) -> dict[str, Any]:
    """Return a stream with its tasks numbered and named as they go on those of a run.

    As in a sequence of data sets, names begin with that of the data set.
    """
    data, tasks = found.settings.data, numbered(stream, len(before["tasks"]) + 1)
    if not found.continues and isinstance(data, DatasetSettings):
        for task in tasks:
            task["name"] = data.title if len(tasks) == 1 else f"{data.title} {task['name']}"
    return {**stream, "tasks": tasks}


def _check(
    found: ExtensionSettings,
    added: Mapping[str, Any],
    before: Mapping[str, Any],
    workplace: Workplace,
) -> None:
    """Refuse tasks that do not fit the run."""
    if list(added["image_shape"]) != list(before["image_shape"]):
        raise _other_shape(added["image_shape"], before["image_shape"])
    check_fit(found.settings, added, torch_device(workplace))
    if found.settings.net.heads == "shared":
        known = before["tasks"][0]["classes"]
        other = next((t["classes"] for t in added["tasks"] if t["classes"] != known), None)
        if other is not None:
            raise SettingsError(
                f"net.heads=shared: the one head knows {counted(len(known), 'class', 'classes')}"
                f" ({few(known)}), and the new tasks have {few(other)}",
                "a shared head does not grow: add tasks with the same classes, or prepare a run"
                " with net.heads=per-task",
            )


def _other_shape(shape: Sequence[int], wanted: Sequence[int]) -> SettingsError:
    """Return why images do not fit, and the settings that bring them to the shape of the run."""
    remedies = []
    if shape[0] != wanted[0]:
        remedies.append({1: "data.channels=grey", 3: "data.channels=rgb"}.get(wanted[0], ""))
    if list(shape[1:]) != list(wanted[1:]):
        height, width = wanted[1:]
        remedies.append(f"data.size={height if height == width else f'[{height},{width}]'}")
    here, there = (" x ".join(map(str, each)) for each in (shape, wanted))
    known = " ".join(filter(None, remedies))
    return SettingsError(
        f"the new images are {here}, those of the run {there} (channels x height x width)",
        f"add {known}" if known else "bring them to that shape",
    )


def _entry(
    found: ExtensionSettings, added: Mapping[str, Any], record: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what ``run.json`` holds of an extension."""
    settings, last = found.settings, record["num_tasks"]
    parts = [fingerprint_of(record, last, "build"), settings.fingerprint(), added["key"]]
    plain = settings.to_dict()
    # In the stream's own numbers: what is kept of it counts from first_task.
    tasks = [{**task, "number": task["number_in_stream"]} for task in added["tasks"]]
    return {
        "first_task": last + 1,
        "num_tasks": len(tasks),
        "fingerprint": sha256_of_text("/".join(parts)),
        "settings": {"data": plain["data"], "train": plain["train"]},
        "typed": list(found.typed),
        "continues": found.continues,
        "stream": {**added, "tasks": tasks},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _notes(
    found: ExtensionSettings, added: Mapping[str, Any], before: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return what a user should know of new tasks."""
    notes = [*found.notes, *stream_notes(added)]
    if not added["shared_labels"]:
        known = {name: t["number"] for t in reversed(before["tasks"]) for name in t["classes"]}
        again = {n: known[n] for t in added["tasks"] for n in t["classes"] if n in known}
        if again:
            names = [f"{name!r} (task {task})" for name, task in again.items()]
            notes.append(
                f"classes with names that the run knows: {few(names)}; they are learned as classes"
                " of new tasks, apart from the old ones"
            )
    return tuple(notes)
