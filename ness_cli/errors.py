"""Every failure a user can cause or meet, each kind with its documented exit code.

A ``NessError`` says in one line what is wrong (value, bound, place) and in another what to do.
Anything else that escapes is a bug: it keeps its traceback and exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class NessError(Exception):
    """A failure with a remedy.

    Args:
        what: One line: the value, the bound and the place.
        remedy: One line: what to do about it, ideally a command to type. May be empty.

    Attributes:
        is_told: Whether another process has said it already.
    """

    exit_code = 1
    kind = "failed"
    labels = ("error: ", "  fix: ")

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.is_told = False

    def document(self) -> dict[str, Any]:
        """Return what scripts read in place of a result."""
        own = {"kind": self.kind, "what": self.what, "remedy": self.remedy or None}
        return {"schema": "ness.error/1", "error": {**own, "exit_code": self.exit_code}}


class SettingsError(NessError):
    """Wrong usage, or settings that cannot be used."""

    exit_code = 2
    kind = "settings"


class InputError(NessError):
    """An input that was never written, or that belongs to another run."""

    exit_code = 4
    kind = "input"


class UnreadableError(InputError):
    """A file of the user's own that cannot be read, or not as what it should be."""


class MissingFilesError(InputError):
    """Files of a data set that are not there.

    Args:
        what: What is missing and where it was looked for.
        remedy: Exact files, where they come from, and where to put them.
        can_download: Whether preparing will get them.
    """

    kind = "missing-files"

    def __init__(self, what: str, remedy: str = "", *, can_download: bool = False) -> None:
        super().__init__(what, remedy)
        self.can_download = can_download


class DamagedError(NessError):
    """Something we wrote ourselves does not read back as written."""

    exit_code = 5
    kind = "damaged"


class NumericalError(NessError):
    """NaN, infinity or a decomposition that did not converge."""

    exit_code = 6
    kind = "numerical"


class LockedError(NessError):
    """Another process works on the same run."""

    exit_code = 7
    kind = "locked"


class SystemRefusedError(NessError):
    """The system said no: disk full, permission, memory, device."""

    exit_code = 8
    kind = "system-refused"


class StoppedError(NessError):
    """Stopped by a signal, with everything needed to go on in place."""

    exit_code = 75
    kind = "stopped"
    labels = ("", "")  # nothing went wrong


class InterruptedAtOnceError(NessError):
    """Ended by a second Ctrl-C, without waiting for a checkpoint."""

    exit_code = 130
    kind = "interrupted"
    labels = ("", "")


class InternalError(NessError):
    """A bug of ours; the traceback is shown beside it."""

    kind = "internal"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
