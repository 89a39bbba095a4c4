"""A lease: what one process at a time holds, on storage that machines share.

Locks of the operating system are not to be relied on over NFS. A lease is a file that says who
holds it; its holder touches it every few seconds. One whose process has ended on this machine is
taken over at once, any other when it was not touched for ``PATIENCE_SECONDS``, by the clock of who
waits: clocks of two machines are never compared.

The files of a lease are numbered, ``.lock-1`` and so on, and the highest number counts. To take it
over means to make the next number by a hard link, which one process alone succeeds in, on NFS too.
A lease that is given back stays as a file, so that numbers never go back. Whoever was suspended for
longer than the others' patience has lost its lease, and finds out before the next file it writes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ness_cli.errors import LockedError
from ness_cli.file_kinds import require_file
from ness_cli.files import make_folder
from ness_cli.process_identity import ProcessIdentity, this_process

BEAT_SECONDS = 15.0
"""How often a holder touches its lease."""
PATIENCE_SECONDS = 60.0
"""How long a lease of another machine may stay untouched before it is taken over."""
_POLL_SECONDS = 0.25
_SHOWN_FOR_SECONDS = 5 * PATIENCE_SECONDS
_HAS_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


@dataclass(frozen=True)
class _Entry:
    """A file of a lease as it was read; ``text`` is its own, ``touched`` its time of change."""

    number: int
    text: str
    touched: int
    is_given_back: bool

    @property
    def is_whole(self) -> bool:
        """Whether all that was written into it is there."""
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(self.text)
            return True
        return False

    def holder(self) -> ProcessIdentity | None:
        """Return who made it, ``None`` if it does not say."""
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            return ProcessIdentity(**json.loads(self.text)["holder"])
        return None

    def name(self) -> str:
        """Return what messages call the holder."""
        return str(self.holder() or "another process")


class Lease:
    """One process at a time holds it.

    Args:
        path: Its files lie beside this path and are named after it: ``<path>-1``.
        holder: Who wants it; this process.
        remedy: What to do where another one holds it.
        note: Called with a line of text when it takes long.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        holder: ProcessIdentity | None = None,
        remedy: str = "wait for it to end, or stop it",
        note: Callable[[str], None] = lambda _text: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = path
        self._me = holder or this_process()
        self._remedy = remedy
        self._note = note
        self._sleep = sleep
        self._own: _Entry | None = None

    @contextlib.contextmanager
    def held(self, *, is_patient: bool = False) -> Iterator[None]:
        """Hold it, and touch it from a thread meanwhile; see ``acquire``."""
        self.acquire(is_patient=is_patient)
        is_over = threading.Event()
        thread = threading.Thread(target=self._keep_touching, args=(is_over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            self.release()

    def acquire(self, *, is_patient: bool = False) -> None:
        """Take it.

        Args:
            is_patient: Wait until a holder that is alive gives it back.

        Raises:
            LockedError: If a process that is alive holds it; says which.
            InputError: If something else is in the place of a file of the lease.
            OSError: If its files cannot be written.
        """
        seen: _Entry | None = None
        silent, is_told = 0.0, False
        while True:
            newest = _newest(self._entries())
            is_at_work = newest is not None and self._is_at_work_here(newest)
            # Counted in polls: one that hung on a server that was away says nothing of the holder.
            silent = silent + _POLL_SECONDS if newest == seen and not is_at_work else 0.0
            is_over = silent >= PATIENCE_SECONDS
            if newest is None or is_over or self._is_free(newest) or self._is_torn(newest):
                if self._take_over(newest):
                    return
                seen = None
                continue
            # An entry of another machine proves nothing until it is touched while we look.
            is_touched = seen is not None and newest.text == seen.text and newest != seen
            if (is_touched or is_at_work) and not is_patient:
                raise LockedError(f"{self.path.parent} is in use by {newest.name()}", self._remedy)
            if not is_told:
                self._note(
                    f"{self.path.parent} is held by {newest.name()}; waiting for a sign of life, up"
                    f" to {PATIENCE_SECONDS:.0f} seconds"
                )
                is_told = True
            seen = newest
            self._sleep(_POLL_SECONDS)

    @property
    def is_held(self) -> bool:
        """Whether it was acquired, and its file is the one that was made then."""
        if self._own is None:
            return False
        found = self._read(self._own.number)
        return found is not None and found.text == self._own.text

    def check(self) -> None:
        """Make sure that it is still held.

        Raises:
            LockedError: If it is not; says which process has taken it over.
        """
        if self.is_held:
            return
        newest = _newest(self._entries())
        if newest is None:
            raise LockedError(
                f"{self.path.parent} is not held any more: {self.path.name} was deleted",
                "nothing was written since; run the same command again",
            )
        raise LockedError(
            f"{self.path.parent} was taken over by {newest.name()}: this process was silent for"
            f" more than {PATIENCE_SECONDS:.0f} seconds",
            "that one goes on with it; nothing was written since",
        )

    def holder(self) -> ProcessIdentity | None:
        """Return the process that holds it, as far as can be told without waiting.

        One of another machine counts as long as it was touched lately; for this the clocks of the
        two machines are compared, which is good enough to be shown.
        """
        newest = _newest(self._entries())
        if newest is None or self._is_free(newest):
            return None
        is_fresh = time.time() - newest.touched / 1e9 < _SHOWN_FOR_SECONDS
        return newest.holder() if is_fresh or self._is_at_work_here(newest) else None

    def touch(self) -> None:
        """Show that the holder is alive; without effect if it holds the lease no more."""
        if self._own is not None and self.is_held:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._file(self._own.number))

    def release(self) -> None:
        """Give it back, if it is held still."""
        if self._own is not None and self.is_held:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._file(self._own.number), ns=(0, 0))

    def forget(self) -> None:
        """Remove the file of a lease that was given back, where nobody will ask for it again."""
        if self._own is not None and self.is_held:
            self._file(self._own.number).unlink(missing_ok=True)

    # -- files -------------------------------------------------------------------------------

    def _file(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}-{number}")

    def _entries(self) -> list[_Entry]:
        found = []
        for path in self.path.parent.glob(f"{self.path.name}-*"):
            number = path.name.removeprefix(f"{self.path.name}-")
            entry = self._read(int(number)) if number.isdecimal() else None
            found += [entry] if entry else []
        return found

    def _read(self, number: int) -> _Entry | None:
        path = self._file(number)
        require_file(path, "run the same command again")
        # Opened by its name each time, which is what makes NFS ask the server.
        with contextlib.suppress(FileNotFoundError), path.open(errors="replace") as file:
            status = os.fstat(file.fileno())
            text = file.read()
            is_copy = False
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                is_copy = json.loads(text)["inode"] != status.st_ino  # of a copied folder
            touched = status.st_mtime_ns
            return _Entry(number, text, touched, is_given_back=is_copy or touched == 0)
        return None

    def _is_free(self, entry: _Entry) -> bool:
        holder = entry.holder()
        return entry.is_given_back or (holder is not None and holder.is_gone(self._me.machine))

    def _is_torn(self, entry: _Entry) -> bool:
        """Return whether it is what a power loss left of an entry: its holder ended with it.

        Where there are links, an entry is whole before it has its name.
        """
        return not entry.is_whole and self._has_links()

    def _has_links(self) -> bool:
        with self._candidate() as (candidate, _):
            other = candidate.with_name(f"{candidate.name}.tmp")
            try:
                os.link(candidate, other)
            except OSError as error:
                if error.errno in (*_HAS_NO_LINKS, errno.ENOENT):  # who was faster has removed it
                    return False
                raise
            finally:
                other.unlink(missing_ok=True)
        return True

    def _is_at_work_here(self, entry: _Entry) -> bool:
        holder = entry.holder()
        return holder is not None and holder.is_running(self._me.machine)

    def _take_over(self, judged: _Entry | None) -> bool:
        """Make the number after the one that was judged; return whether nobody else did."""
        with self._candidate() as (candidate, text):
            # Listed after a file was made in the folder: NFS asks the server then.
            before = self._entries()
            if _newest(before) != judged:
                return False
            number = judged.number + 1 if judged else 1
            made = self._make(candidate, text, self._file(number))
            own = self._read(number) if made else None
            if own is None or own.text != made:
                return False
            if any(each not in before for each in self._entries() if each.text != made):
                self._file(number).unlink(missing_ok=True)
                return False
        self._own = own
        self._remove_older(before)
        return True

    @contextlib.contextmanager
    def _candidate(self) -> Iterator[tuple[Path, str]]:
        """Write a complete entry under a name of its own."""
        make_folder(self.path.parent)
        candidate = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")
        try:
            yield candidate, self._write(candidate)
        except OSError as error:
            if error.filename is None:
                raise OSError(error.errno, error.strerror, str(self.path)) from error
            raise
        finally:
            candidate.unlink(missing_ok=True)

    def _write(self, path: Path) -> str:
        """Write a new file that names the holder, and return its text."""
        with path.open("x") as file:
            inode = os.fstat(file.fileno()).st_ino
            content = {"holder": asdict(self._me), "inode": inode, "token": uuid.uuid4().hex}
            text = json.dumps(content, indent=2, sort_keys=True) + "\n"
            file.write(text)
        return text

    def _make(self, candidate: Path, text: str, path: Path) -> str:
        """Make an entry unless there is one; return its text, empty if there was."""
        try:
            os.link(candidate, path)
        except FileNotFoundError:
            return ""  # who was faster has removed the candidate
        except FileExistsError:
            # On NFS the answer to a link that was made may get lost, and the next one says this.
            with contextlib.suppress(FileNotFoundError):
                return text if candidate.stat().st_nlink > 1 else ""
            return ""
        except OSError as error:
            if error.errno not in _HAS_NO_LINKS:
                raise
            with contextlib.suppress(FileExistsError):
                return self._write(path)  # not complete at once: an empty one is waited for
            return ""
        return text

    def _remove_older(self, entries: Collection[_Entry]) -> None:
        """Remove what counts no more: then former holders find that they have lost the lease."""
        for entry in entries:
            self._file(entry.number).unlink(missing_ok=True)
        for leftover in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            leftover.unlink(missing_ok=True)

    def _keep_touching(self, is_over: threading.Event) -> None:
        while not is_over.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # the next one may succeed
                self.touch()


def _newest(entries: Collection[_Entry]) -> _Entry | None:
    return max(entries, key=lambda each: each.number, default=None)
