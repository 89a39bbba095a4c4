"""Inputs tried in a forked process with little memory, that may write into one folder only."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ness_cli.errors import NessError

MEMORY = 10**9  # bytes, beyond what the process has when it begins
SECONDS = 60  # of the processor
# What no parser has any business with, as Python's audit events call it.
_FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect")
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate", "os.symlink")


@dataclass(frozen=True)
class Tried:
    """What became of inputs.

    Attributes:
        outcomes: How often each was ``read``, or refused with a kind of ``NessError``.
        wrong: What ended in any other way: the input's name and the error.
        escapes: What was run, or changed outside of the folder.
    """

    outcomes: Counter[str]
    wrong: list[str]
    escapes: list[str]

    def check(self) -> Counter[str]:
        """Return the outcomes, if there are no others and nothing escaped."""
        assert not self.wrong, self.wrong[:5]
        assert not self.escapes, self.escapes[:5]
        return self.outcomes


def try_all(
    inputs: Iterable[bytes], read: Callable[[bytes], object], folder: Path, *, memory: int = MEMORY
) -> Tried:
    """Return what becomes of inputs; a crash of the process is an error that names the input.

    Args:
        inputs: They are made in the process.
        read: Reads one.
        folder: The only place where something may be written.
        memory: Bytes that the process may take.
    """
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads, which libraries have
        pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException), os.fdopen(send, "w") as out:
            _limit(memory)
            _try(inputs, read, folder, out)
            code = 0
        os._exit(code)
    os.close(send)
    with os.fdopen(receive) as answers:
        lines = answers.read().splitlines()
    _, status = os.waitpid(pid, 0)
    last = lines[-1] if lines else "nothing"
    assert os.waitstatus_to_exitcode(status) == 0, f"it died of {status} while trying {last}"
    found = json.loads(last)
    return Tried(Counter(found["outcomes"]), found["wrong"], found["escapes"])


def _limit(memory: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def _try(
    inputs: Iterable[bytes], read: Callable[[bytes], object], folder: Path, out: io.TextIOBase
) -> None:
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    escapes: list[str] = []
    _watch(folder, escapes)
    for number, data in enumerate(inputs):
        print(f"number {number}: {data[:200].hex()}", file=out, flush=True)
        try:
            read(data)
            outcomes["read"] += 1
        except NessError as error:
            outcomes[type(error).__name__] += 1
            if not error.what:
                wrong.append(f"number {number}: nothing is said")
        except BaseException as error:
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            place = where and f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}"
            wrong.append(f"number {number}: {error!r:.200} at {place}, of {data[:200]!r}")
    print(json.dumps({"outcomes": outcomes, "wrong": wrong, "escapes": escapes}), file=out)


def _watch(folder: Path, escapes: list[str]) -> None:
    def hook(event: str, arguments: tuple[object, ...]) -> None:
        named = arguments[:1] if event == "open" else arguments[:2]  # renamed: from and to
        paths = [str(each) for each in named if isinstance(each, str | os.PathLike)]
        is_change = event in _CHANGES or (
            event == "open"
            and isinstance(arguments[2], int)
            and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if event == "os.remove" and arguments[1] != -1:
            return  # by name in a folder that is open, as whole folders are removed
        inside = all(Path(path).absolute().is_relative_to(folder) for path in paths)
        if event in _FORBIDDEN or (is_change and paths and not inside):
            escapes.append(f"{event} {paths}")

    sys.addaudithook(hook)
