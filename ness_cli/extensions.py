"""Tasks that were appended to a run after it was prepared, as ``run.json`` tells of them.

Everything that is known of an extension stands in its entry there, so that renaming one file
decides whether a run has it. What was written before stays as it is: ``settings.yaml`` and
``stream.json`` are about the tasks that the run was prepared with.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ness_cli import record_shapes
from ness_cli.errors import InputError
from ness_cli.files import read_json
from ness_cli.run_dir import RunDir
from ness_cli.words import tasks_in_words

STREAM = "ness.stream/2"
"""What the description of a task stream says that it is, in a run and in the cache."""


@dataclass(frozen=True)
class Extension:
    """Tasks appended by one command.

    Attributes:
        first_task: Number of the first of them in the run.
        num_tasks: How many are still there; those that were taken back were the last ones.
        entry: The content of its entry in ``run.json``.
    """

    first_task: int
    num_tasks: int
    entry: Mapping[str, Any]

    @property
    def last_task(self) -> int:
        """Number of the last of them in the run."""
        return self.first_task + self.num_tasks - 1

    @property
    def fingerprint(self) -> str:
        """What its files carry: a hash of all that they depend on, earlier tasks included."""
        return str(self.entry["fingerprint"])

    @property
    def stream(self) -> Mapping[str, Any]:
        """Description of its images as the cache has them, numbered from 1."""
        found: Mapping[str, Any] = self.entry["stream"]
        return found

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its settings of data and training, nested plain values."""
        found: Mapping[str, Any] = self.entry["settings"]
        return found

    @property
    def typed(self) -> tuple[str, ...]:
        """What was typed for it."""
        return tuple(self.entry["typed"])

    @property
    def continues(self) -> bool:
        """Whether its tasks are the next ones of the data set that the run was prepared with."""
        return bool(self.entry["continues"])

    def tasks(self) -> list[dict[str, Any]]:
        """Return what is known of its tasks, numbered as in the run."""
        return numbered(self.stream, self.first_task)[: self.num_tasks]

    @property
    def which(self) -> str:
        """Its tasks in words: ``tasks 4 to 5``."""
        return tasks_in_words(range(self.first_task, self.last_task + 1))

    def document(self) -> dict[str, Any]:
        """Return which tasks it is, what was typed and what holds for them, as plain values."""
        which = {"first_task": self.first_task, "num_tasks": self.num_tasks}
        return {**which, "typed": list(self.typed), "settings": dict(self.settings)}

    def words(self) -> str:
        """Return a sentence: which tasks, and what was typed for them."""
        return f"{self.which}: added with {' '.join(self.typed)}"


def read_extensions(run_record: Mapping[str, Any]) -> tuple[Extension, ...]:
    """Return the extensions of a run in their order; none in runs of versions without them.

    Args:
        run_record: The content of ``run.json``.
    """
    return tuple(
        Extension(entry["first_task"], entry["num_tasks"], entry)
        for entry in run_record.get("extensions", ())
    )


def extension_of(run_record: Mapping[str, Any], task_number: int) -> Extension | None:
    """Return the extension that a task came with, ``None`` for those prepared with the run."""
    found = (e for e in read_extensions(run_record) if e.first_task <= task_number <= e.last_task)
    return next(found, None)


def fingerprint_of(run_record: Mapping[str, Any], task_number: int, step: str) -> str:
    """Return the fingerprint that the files of a step carry.

    It depends on what the step depends on: nothing that is appended changes it, and what a fork
    shares has that of the run that it was forked from.

    Args:
        run_record: The content of ``run.json``.
        task_number: The task.
        step: ``train``, ``build`` or ``evaluate``.
    """
    forked = run_record.get("forked", {})
    # Forks of earlier versions know that of the first training only.
    known = forked.get("fingerprints") or {"train 1": forked.get("training_fingerprint")}
    if shared := known.get(f"{step} {task_number}"):
        return str(shared)
    extension = extension_of(run_record, task_number)
    return str(run_record["fingerprint"]) if extension is None else extension.fingerprint


def way_to_prepare(path: Path) -> str:
    """Return what writes the settings and the images of a run again, for error messages."""
    return f"run: ness prepare --out {shlex.quote(str(path))}"


def read_manifest(run: RunDir, run_record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of all tasks of a run: those of ``stream.json``, then the appended.

    Raises:
        InputError: If ``stream.json`` is missing, of another version, or that of other images.
        DamagedError: If it does not read back.
    """
    remedy = way_to_prepare(run.path)
    manifest = read_json(run.stream, remedy=remedy, schema=STREAM, shape=record_shapes.STREAM)
    if manifest.get("key", run_record["stream_key"]) != run_record["stream_key"]:
        raise InputError(
            f"{run.run} and {run.stream} do not belong together: they name other images",
            f"put back the one that is of another run; to write the second anew, {remedy}",
        )
    for extension in read_extensions(run_record):
        manifest["tasks"] = [*manifest["tasks"], *extension.tasks()]
    return manifest


def numbered(stream: Mapping[str, Any], first_task: int) -> list[dict[str, Any]]:
    """Return the tasks of a stream, each with its number in the run and its place in the stream."""
    return [
        {
            **task,
            "number": first_task + index,
            "stream": stream.get("key"),
            "number_in_stream": task["number"],
        }
        for index, task in enumerate(stream["tasks"])
    ]


def forked_words(run_record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what is to be said of a run that was forked from another one; nothing of others."""
    forked = run_record.get("forked")
    if forked is None:
        return ()
    after = forked["after"]
    which = tasks_in_words(range(1, after + 1))
    changed = f", and differs in {', '.join(forked['changed'])}" if forked["changed"] else ""
    return (
        f"forked from {forked['from']}: shares the training of {which}{changed}; the two are no"
        " independent runs",
    )
