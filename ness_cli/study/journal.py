"""The journal of a search: a line of JSON for everything that Optuna was told, each sealed.

It is what Optuna's own journal is, and is read by it as such; every line has one key more, a hash
of itself and of all lines before. Whoever writes holds the lease of the study, and needs no lock.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ness_cli.hashing import sha256_of_text

_SEAL = "seal"


class Journal:
    """What ``optuna.storages.JournalStorage`` calls a backend.

    Args:
        path: The file; made if it is not there. One of an earlier version has no seals, and gets
            them from its next line on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            path.open("ab").close()
        # Where a line begins, and the hash of all before it.
        self._begin = [(0, "")]

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield what is told from one line on, counted from 0.

        The beginning of a line at the end is being written, or its writer was killed.

        Raises:
            ValueError: If a line is not what was written.
        """
        first = min(log_number_from, len(self._begin) - 1)
        with self._path.open("rb") as file:
            file.seek(self._begin[first][0])
            for number, line in enumerate(file, start=first):
                if not line.endswith(b"\n"):
                    return
                log, after = self._checked(number, line)
                if number + 1 == len(self._begin):
                    self._begin.append((self._begin[number][0] + len(line), after))
                if number >= log_number_from:
                    yield log

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """Write lines, and wait until they are on the disk."""
        for _ in self.read_logs(len(self._begin) - 1):
            pass  # the hash goes on from the last line
        before, lines = self._begin[-1][1], []
        for log in logs:
            before = _after(before, log)
            lines.append(json.dumps({**log, _SEAL: before}, separators=(",", ":")) + "\n")
        with self._path.open("ab") as file:
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())

    def _checked(self, number: int, line: bytes) -> tuple[dict[str, Any], str]:
        """Return what a line tells, and the hash after it."""
        log = json.loads(line)
        if not isinstance(log, dict):
            raise ValueError(f"line {number + 1} is no JSON object")
        seal, after = log.pop(_SEAL, None), _after(self._begin[number][1], log)
        if seal not in (None, after):
            raise ValueError(f"line {number + 1}, or one before it, is not what was written")
        return log, after


def _after(before: str, log: dict[str, Any]) -> str:
    return sha256_of_text(before + json.dumps(log, sort_keys=True))
