"""What tables say of a run's tasks besides their numbers: names, classes, test images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.extensions import read_manifest
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_run_record


@dataclass(frozen=True)
class TaskFacts:
    """A task as ``prepare`` described it.

    Attributes:
        number: Its number, from 1.
        words: What says more than the number: its classes, or its name, or nothing.
        num_test: Its test images; ``None`` if that is not known.
        classes: Names of its classes, in the order of their labels.
        key: What is the same of the same task in runs that learn their tasks in another order;
            empty if that is not known.
    """

    number: int
    words: tuple[str, ...] = ()
    num_test: int | None = None
    classes: tuple[str, ...] = ()
    key: str = ""

    def label(self, width: int) -> str:
        """Return the words in at most ``width`` columns: ``apple, bear +8``."""
        for count in range(len(self.words), 0, -1):
            left = len(self.words) - count
            text = ", ".join(self.words[:count]) + (f" +{left}" if left else "")
            if len(text) <= width:
                return text
        return f"{self.words[0][: max(1, width - 2)]}.." if self.words else ""


def read_tasks(run: RunDir, num_tasks: int) -> tuple[TaskFacts, ...]:
    """Return what is known of the tasks of a run.

    Raises:
        DamagedError: If the description of its stream does not read back.
    """
    if not run.stream.exists():
        return tuple(TaskFacts(task_number) for task_number in range(1, num_tasks + 1))
    return facts_of(read_manifest(run, read_run_record(run)))


def facts_of(manifest: Mapping[str, Any]) -> tuple[TaskFacts, ...]:
    """Return what a stream's description says of its tasks."""
    tasks, is_shared = manifest["tasks"], bool(manifest.get("shared_labels"))
    return tuple(
        TaskFacts(
            task_number,
            words,
            task["splits"]["test"]["count"],
            tuple(task["classes"]),
            # Where labels are shared all tasks have the same classes, else names only count.
            task["name"] if is_shared else json.dumps(sorted(task["classes"])),
        )
        for task_number, (task, words) in enumerate(
            zip(tasks, _words(manifest), strict=True), start=1
        )
    )


def _words(manifest: Mapping[str, Any]) -> Sequence[tuple[str, ...]]:
    names = [task["name"] for task in manifest["tasks"]]
    stem = names[0].removesuffix("1")
    if names == [f"{stem}{number}" for number in range(1, len(names) + 1)]:
        return [()] * len(names)  # they only count: permutation-1, permutation-2
    if manifest.get("shared_labels") or manifest.get("source") == "sequence":
        return [(name,) for name in names]
    return [tuple(task["classes"]) for task in manifest["tasks"]]


def are_disjoint(identity: Mapping[str, Any]) -> bool:
    """Return whether no two tasks of a run share test images; permutations and rotations do."""
    sources = identity.get("data.sources") or [{"protocol": identity.get("data.protocol")}]
    return all(source.get("protocol") in (None, "split") for source in sources)
