"""The folder of a study: what was asked for, its runs, and how far each of them is."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ness_cli import registry
from ness_cli.errors import (
    DamagedError,
    InputError,
    NessError,
    SettingsError,
    SystemRefusedError,
)
from ness_cli.file_kinds import require_file
from ness_cli.files import read_json, remove_leftovers, write_bytes, write_record
from ness_cli.hashing import sha256_of_file, sha256_of_text
from ness_cli.lease import Lease
from ness_cli.process_identity import ProcessIdentity
from ness_cli.record_shapes import STUDY
from ness_cli.run_dir import RunDir
from ness_cli.run_state import STEPS, RunState, read_state
from ness_cli.settings import yaml_files
from ness_cli.settings.study_files import StudyFile, read_study
from ness_cli.study.engines.base import ENGINES, IN_USE, INTERRUPTED
from ness_cli.study.search import JOURNAL

_LAST_LINES = 200
_SCHEMA = "ness.study/1"


@dataclass(frozen=True)
class RunProgress:
    """How far a run of a study is.

    Attributes:
        status: ``done``, ``running``, ``failed``, ``stopped`` (it goes on) or ``waiting``.
        tasks_done: Tasks that are trained, consolidated and evaluated.
        num_tasks: Those that it has to do; ``None`` where that is not known yet.
        why: Why it failed.
        refused: What the system said if it let no record be read, which may pass.
    """

    status: str
    tasks_done: int = 0
    num_tasks: int | None = None
    why: str = ""
    refused: SystemRefusedError | None = None


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study: ``ROW/seed-N`` for every run, its log and exit code beside it."""

    path: Path

    @property
    def record(self) -> Path:
        """Return the file with what was asked for."""
        return self.path / "study.json"

    def run(self, name: str) -> RunDir:
        """Return a run folder by its name, ``ROW/seed-N``."""
        return RunDir(self.path / name)

    def log(self, name: str) -> Path:
        """Return the log of a run: everything that its commands said, oldest first."""
        return self.path / f"{name}.log"

    def exit_code(self, name: str) -> Path:
        """Return the file with the exit code of a run's last command."""
        return exit_file(self.path / name)

    @property
    def settings(self) -> Path:
        """Return the study as it was asked for, with what was typed beside its file."""
        return self.path / "study.yaml"

    def is_one(self) -> bool:
        """Return whether a study was run here; its record may be gone, or something else."""
        return os.path.lexists(self.record) or self.settings.exists()

    def way_to_write(self) -> str:
        """Return what writes both files again, for error messages."""
        command = "tune" if (self.path / JOURNAL).exists() else "study run"
        return f"ness {command} FILE --out {shlex.quote(str(self.path))} writes it anew"

    def refuse_what_is_no_file(self) -> None:
        """Refuse folders and pipes in the place of both files.

        Raises:
            InputError: Naming what is there.
        """
        for path in (self.record, self.settings):
            require_file(path, self.way_to_write())

    def remember(self, study: StudyFile, rows: Sequence[str] = (), **how: str) -> None:
        """Write down what was asked for, so that the folder is enough to go on from.

        Args:
            study: The study.
            rows: The rows that were asked for, beside those of before; all if empty.
            how: How it is run: the engine by name, the device.
        """
        self.refuse_what_is_no_file()
        values = study.settings.model_dump(mode="json", exclude_unset=True)
        text = yaml_files.dump({**values, "base": study.base})
        content: dict[str, Any] = {"schema": _SCHEMA, "file": str(study.path.absolute()), **how}
        content["sha256"] = sha256_of_text(text)
        content |= self._replaced(content["sha256"])
        if together := self._together_with(rows):
            content["rows"] = together
        # The record first: it knows both files, whichever is there after a kill between the two.
        write_record(self.record, content)
        write_bytes(self.settings, text.encode())

    def _replaced(self, sha256: str) -> dict[str, str]:
        """Return the hash of the study that is there, if it is another that was written here."""
        try:
            before = read_json(self.record, remedy="", shape=STUDY)
            found = sha256_of_file(self.settings)
        except (NessError, OSError):  # none there, or damaged: not to be believed
            return {}
        return {"replaces": found} if found in _hashes(before) - {sha256} else {}

    def _together_with(self, rows: Sequence[str]) -> list[str]:
        """Return rows with those that were asked for before; none where that were all."""
        if not rows or not self.record.exists():
            return [*rows]
        try:
            before = read_json(self.record, remedy="", shape=STUDY).get("rows")
        except NessError:  # damaged: written anew
            return [*rows]
        return list(dict.fromkeys([*before, *rows])) if before else []

    def remembered(self) -> tuple[StudyFile, dict[str, Any]]:
        """Return what was asked for, and how it is run.

        Raises:
            InputError: If the folder is not that of a study.
            DamagedError: If a file does not read back.
            SystemRefusedError: If the system does not let it be read.
        """
        self.refuse_what_is_no_file()
        remedy = self.way_to_write()
        how = read_json(self.record, remedy=remedy, schema=_SCHEMA, shape=STUDY)
        if how["engine"].replace("_", "-") not in registry.names(ENGINES):  # as it was typed
            raise DamagedError(
                f"{self.record} is damaged, or of a plug-in that is not installed: engine is"
                f" {how['engine']!r:.40}",
                remedy,
            )
        if not self.settings.exists():
            raise InputError(f"{self.settings} is missing", remedy)
        written = _hashes(how)  # earlier versions wrote none
        if written and sha256_of_file(self.settings) not in written:
            what = f"it is not what was written with {self.record.name}"
            raise DamagedError(f"{self.settings} is damaged: {what}", remedy)
        try:
            return read_study(self.settings), how
        except SettingsError as error:
            raise DamagedError(f"{self.settings} is damaged: {error.what}", remedy) from error
        except InputError as error:  # the system, as it is there and a file
            raise SystemRefusedError(
                error.what, "put it right and run the same command again"
            ) from error

    def progress(self, name: str, until: int | None = None) -> RunProgress:
        """Return how far a run is, from its own records.

        Args:
            name: The run.
            until: Its last task, where that is not the last that it has.
        """
        run, code = self.run(name), self.last_code(name)
        if not run.run.exists():
            failed = code not in (None, 0, INTERRUPTED, IN_USE)
            return (
                RunProgress("failed", why=self.reason(name)) if failed else RunProgress("waiting")
            )
        try:
            state = read_state(run)
        except SystemRefusedError as error:
            return RunProgress("failed", why=error.what, refused=error)
        except NessError as error:
            return RunProgress("failed", why=error.what)
        num_tasks = state.num_tasks if until is None else min(until, state.num_tasks)
        done = num_done(state, num_tasks)
        if done == num_tasks:
            return RunProgress("done", done, num_tasks)
        if run.holder() is not None:
            return RunProgress("running", done, num_tasks)
        if code in (None, 0, INTERRUPTED, IN_USE):
            return RunProgress("stopped", done, num_tasks)
        return RunProgress("failed", done, num_tasks, self.reason(name))

    def reason(self, name: str) -> str:
        """Return why a run failed: the last error in its log, or its last line, or the code."""
        code, said = self.last_code(name), []
        with contextlib.suppress(OSError):
            lines = _text(self.log(name)).splitlines()[-_LAST_LINES:]
            said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
            said = said or [line for line in lines if line.strip()]
        last = said[-1] if said else "it said nothing"
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}; before: {last}"
        return last if said else f"exit code {code}"

    def last_code(self, name: str) -> int | None:
        """Return the exit code of a run's last command, ``None`` where there is none."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(_text(self.exit_code(name)).split()[0])
        return None

    @contextlib.contextmanager
    def lock(self, note: Callable[[str], None] = lambda _text: None) -> Iterator[None]:
        """Hold the study: one process at a time starts its runs.

        Args:
            note: Called with a line of text when it takes long.

        Raises:
            LockedError: If another process holds it.
        """
        remedy = f"wait for it, or: ness study stop {self.path}"
        with Lease(self.path / ".lock", note=note, remedy=remedy).held():
            # Its own only: runs that are under way write below.
            remove_leftovers(self.path, "")
            yield

    def holder(self) -> ProcessIdentity | None:
        """Return the process that runs the study, ``None`` if none does."""
        return Lease(self.path / ".lock").holder()


def _hashes(record: dict[str, Any]) -> set[str]:
    """Return the hashes that the settings of a study may have, by its record."""
    return {record[key] for key in ("sha256", "replaces") if key in record}


def exit_file(run: Path) -> Path:
    """Return the file that says how the last command of a run ended, beside the run's folder."""
    return run.with_name(f"{run.name}.exit")


def job_seconds(path: Path) -> float | None:
    """Return how long a command took that ended well, by such a file; not all engines say it."""
    with contextlib.suppress(OSError, ValueError):
        code, seconds = _text(path).split()
        return float(seconds) if int(code) == 0 else None
    return None


def _text(path: Path) -> str:
    """Return what is in a file, nothing if it is none: reading a pipe would never end."""
    return path.read_text(errors="replace") if path.is_file() else ""


def num_done(state: RunState, until: int) -> int:
    """Return how many tasks of a run, up to one, have all their steps."""
    return sum(all(state.of(task, step).is_done for step in STEPS) for task in range(1, until + 1))


def study_folder(path: Path) -> StudyFolder:
    """Return the folder of a study that was run.

    Raises:
        InputError: If it is none.
    """
    folder = StudyFolder(path)
    if folder.is_one() and not folder.record.exists():
        raise InputError(f"{folder.record} is missing", folder.way_to_write())
    if not folder.is_one():
        raise InputError(f"{path} is not the folder of a study", "see: ness study ls")
    return folder
