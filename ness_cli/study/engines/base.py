"""What an engine of a study is: it runs ordinary ``ness run`` commands, each as often as it takes.

An engine is a file here with a class named after it, and one of options in ``settings/engines/``.
Every job appends the chatter of its command (stderr) to its log, and writes the exit code of the
command, as a line of text, into its file for it when the command has ended; a second line may say
how many seconds that took. 75 means interrupted with a good checkpoint, 7 in use by another
process: both ask for the same command again.
"""

from __future__ import annotations

import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ness_cli.file_kinds import require_file
from ness_cli.files import make_folder
from ness_cli.settings.engines.base import EngineOptions
from ness_cli.workplace import Workplace

ENGINES = "ness_cli.study.engines"
"""The package that engines are found in, by the name of their file."""
INTERRUPTED = 75
IN_USE = 7


@dataclass(frozen=True)
class Job:
    """One run of a study, as an engine sees it.

    Attributes:
        name: Unique in the study, also a relative path: ``bounded/seed-1``.
        command: What is typed after ``ness``.
        run: The run folder.
        log: Where what the command says is appended.
        exit_code: Where its exit code is written.
    """

    name: str
    command: tuple[str, ...]
    run: Path
    log: Path
    exit_code: Path

    @property
    def argv(self) -> list[str]:
        """The command for a process of its own, with the Python that runs here."""
        return [sys.executable, "-m", "ness_cli", *self.command]

    def open_log(self) -> BinaryIO:
        """Return the log, open to append to; made, with its folder, if it is not there.

        Raises:
            InputError: If something else is in its place.
        """
        make_folder(self.log.parent)
        require_file(self.log, "type the same command again")
        return self.log.open("a+b")


def last_code(code: int) -> int:
    """Return an exit code as engines see it: who was ended by a request to stop was interrupted.

    That is before the command could catch the signal, while it started.

    Args:
        code: As the operating system has it, negative for a signal.
    """
    return INTERRUPTED if code in (-signal.SIGTERM, -signal.SIGUSR1) else code


class Engine(ABC):
    """Runs jobs.

    Args:
        folder: The folder of the study; an engine keeps what it must remember in ``.NAME.*`` there.
        options: Those of the engine, from the study or the command line.
        threads: CPU threads of every job, which its command names too.
        workplace: Device, progress and the request to stop.
    """

    def __init__(
        self, folder: Path, options: EngineOptions, threads: int, workplace: Workplace
    ) -> None:
        self.folder = folder
        self.options = options
        self.threads = threads
        self.workplace = workplace

    def at_a_time(self) -> int | None:
        """Return how many jobs run at a time; ``None`` if that is not known."""
        return self.options.jobs

    @abstractmethod
    def dry_run(self, jobs: Sequence[Job]) -> str:
        """Return what ``run`` would submit or start, as text; nothing is written."""

    @abstractmethod
    def run(self, jobs: Sequence[Job], watch: Callable[[], None]) -> bool:
        """Bring jobs to their end; one that fails does not keep the others.

        If a stop is requested, those under way are asked to stop too and waited for.

        Args:
            jobs: Those that are not done; none that another one has to wait for.
            watch: To be called every second or so while waiting: shows progress.

        Returns:
            Whether they have ended; not if they were handed over to something that goes on when
            this process ends.
        """

    def stop(self, jobs: Sequence[Job]) -> int:
        """Ask for a stop of what was handed over before; nothing is, where ``run`` waits for it.

        Args:
            jobs: Those that are not done.

        Returns:
            How many were asked to stop.
        """
        return 0

    def status(self, jobs: Sequence[Job]) -> Mapping[str, str]:
        """Return what the engine knows of jobs by name (``queued``), in a word; nothing by default.

        Args:
            jobs: Those that are not done.
        """
        return {}
