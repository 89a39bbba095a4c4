"""Which arrays of jobs a study has queued: no kill between ``sbatch`` and its record loses one.

What is about to be queued is written down before ``sbatch`` is called. If its answer was never
written down, the queue knows the array by its script, whose path names the study.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ness_cli.console import Progress
from ness_cli.errors import DamagedError, LockedError
from ness_cli.files import read_json, write_record
from ness_cli.record_shapes import SLURM
from ness_cli.study.folder import StudyFolder

_SCHEMA = "ness.slurm/1"


@dataclass(frozen=True)
class Queued:
    """A job that is queued or runs.

    Attributes:
        array: The id of its array.
        index: Its place in that.
        state: As Slurm calls it.
        script: What ``sbatch`` was given.
    """

    array: str
    index: str
    state: str
    script: str = ""


@dataclass(frozen=True)
class SlurmRecord:
    """``.slurm.json`` in the folder of a study: the names of the jobs of every array, by its id."""

    folder: Path

    @property
    def path(self) -> Path:
        """Return the file."""
        return self.folder / ".slurm.json"

    @property
    def script(self) -> Path:
        """Return the script of the latest array; absolute, as the queue is to know it."""
        return self.folder.absolute() / ".slurm.sh"

    def arrays(self, queue: Iterable[Queued] = ()) -> dict[str, list[str]]:
        """Return the names of the jobs of every array.

        Args:
            queue: What is in the queue; an array whose id was never written down is found there.

        Raises:
            DamagedError: If the record does not read back.
        """
        known, last = self._read()
        unknown = self._unknown(known, queue)
        return known | {unknown[0]: last} if last and len(unknown) == 1 else known

    def settle(self, queue: Iterable[Queued], progress: Progress) -> None:
        """Write down what an earlier process queued and could not write down.

        A record that is damaged is written anew.

        Args:
            queue: What is in the queue.
            progress: Told of the damage.

        Raises:
            LockedError: If the queue has arrays of the study and nothing tells what is in them.
        """
        is_damaged, known, last = False, dict[str, list[str]](), list[str]()
        try:
            known, last = self._read()
        except DamagedError as error:
            is_damaged = True
            progress.note(error.what)
        unknown = self._unknown(known, queue)
        if len(unknown) > bool(last):
            ids = " ".join(unknown)
            raise LockedError(
                f"{self.folder}: jobs of it are in the queue that {self.path.name} does not know:"
                f" {ids}",
                f"wait until they have left it, or: scancel {ids}; then type the same again",
            )
        if last or is_damaged:
            self.write(known | dict.fromkeys(unknown, last))

    def write(self, arrays: Mapping[str, Sequence[str]], last: Sequence[str] = ()) -> None:
        """Write the record.

        Args:
            arrays: The names of the jobs of every array, by its id.
            last: Those of the array that is about to be queued.
        """
        more = {"next": [*last]} if last else {}
        write_record(self.path, {"schema": _SCHEMA, "arrays": arrays, **more})

    def _read(self) -> tuple[dict[str, list[str]], list[str]]:
        """Return the arrays, and the names of the jobs of one that was to be queued."""
        if not os.path.lexists(self.path):
            return {}, []
        remedy = StudyFolder(self.folder).way_to_write()
        found = read_json(self.path, remedy=remedy, schema=_SCHEMA, shape=SLURM)
        return found["arrays"], found.get("next", [])

    def _unknown(self, known: Mapping[str, object], queue: Iterable[Queued]) -> list[str]:
        """Return the arrays in the queue that are of this study and not in its record."""
        own = os.path.realpath(self.script)
        others = {(each.array, each.script) for each in queue if each.array not in known}
        found = {array for array, script in others if os.path.realpath(script) == own}
        return sorted(found, key=int)
