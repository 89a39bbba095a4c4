"""What every command does alike: signals, errors and exit codes, the console, the cache."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import platformdirs
import typer

from ness_cli.allocator import keep_freed_memory
from ness_cli.console import Console
from ness_cli.errors import (
    InternalError,
    InterruptedAtOnceError,
    NessError,
    SystemRefusedError,
)
from ness_cli.memory import is_out_of_memory, out_of_memory
from ness_cli.stop_request import StopRequest
from ness_cli.workplace import Workplace


@dataclass(frozen=True)
class Session(Workplace):
    """What a command works with: a workplace that reports to the console."""

    progress: Console = field(default_factory=Console)

    @property
    def console(self) -> Console:
        """Where results and messages go."""
        return self.progress


@contextlib.contextmanager
def session(
    *,
    json: bool = False,
    quiet: bool = False,
    way_on: str = "",
    device: str = "auto",
    threads: int | None = None,
) -> Iterator[Session]:
    """Run the body of a command.

    SIGTERM, SIGUSR1, SIGHUP and the first Ctrl-C ask for a stop at the next step boundary; the
    second Ctrl-C ends the process at once. A SIGHUP that is ignored, as below ``nohup``, stays so.
    Expected failures become a message and their exit code, and with ``json`` a document in place of
    the result.

    Args:
        json: Print one document on stdout, whatever happens.
        quiet: Print errors only.
        way_on: What to type after a stop, where that is not the step that stopped.
        device: Device by name, for commands that compute.
        threads: CPU threads, likewise.
    """
    keep_freed_memory()  # of processes of our own: a program that loads a model keeps its settings
    # Of several processes that torchrun has started the first one talks.
    is_first = "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0"
    console = Console(quiet=quiet or not is_first, json=json and is_first)
    stop = StopRequest(way_on)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGINT and stop.reason == "SIGINT":
            raise KeyboardInterrupt
        stop.request(name)
        console.note(f"{name}: stopping at the next step boundary")

    before = {number: signal.signal(number, on_signal) for number in _stop_signals()}
    try:
        yield Session(cache_dir(), device, threads, console, stop)
    except NessError as error:
        raise _exit(console, error) from error
    except KeyboardInterrupt as error:
        raise _exit(console, InterruptedAtOnceError("interrupted")) from error
    except typer.Exit:
        raise
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            what = f"{type(error).__name__}: {error}"
            console.failed(InternalError(what, "report it, with the traceback on stderr"))
            raise
        raise _exit(console, refusal) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_signals() -> Iterator[signal.Signals]:
    """Yield the signals that ask for a stop."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows lacks some
        is_nohup = name == "SIGHUP" and number and signal.getsignal(number) == signal.SIG_IGN
        if number is not None and not is_nohup:
            yield number


def cache_dir() -> Path:
    """Return the folder of prepared data: ``NESS_CACHE``, else the user's cache folder."""
    return Path(os.environ.get("NESS_CACHE") or platformdirs.user_cache_dir("ness"))


def _exit(console: Console, error: NessError) -> typer.Exit:
    console.error(error)
    return typer.Exit(error.exit_code)


def _refusal(error: Exception) -> SystemRefusedError | None:
    """Return what the system refused, or ``None`` if the error is our own."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        remedies = {
            errno.ENOSPC: "free some space and run the same command again",
            errno.EACCES: "check the permissions of that place",
        }
        remedy = remedies.get(error.errno or 0, "put it right and run the same command again")
        return SystemRefusedError(f"{where}{error.strerror or error}", remedy)
    if is_out_of_memory(error):
        return out_of_memory(error, "end other programs, or use a machine with more memory")
    return None
