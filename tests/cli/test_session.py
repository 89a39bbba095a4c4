from __future__ import annotations

import errno
import signal

import pytest
import typer

from ness_cli.cli.session import session
from ness_cli.errors import (
    DamagedError,
    InputError,
    LockedError,
    NessError,
    NumericalError,
    SettingsError,
    StoppedError,
    SystemRefusedError,
)


def _code(action) -> int:
    with pytest.raises(typer.Exit) as end, session(quiet=True) as (console, stop):
        action(console, stop)
    return end.value.exit_code


def _raise(error):
    def action(_console, _stop):
        raise error

    return action


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (SettingsError, 2),
        (InputError, 4),
        (DamagedError, 5),
        (NumericalError, 6),
        (LockedError, 7),
        (SystemRefusedError, 8),
        (StoppedError, 75),
        (NessError, 1),
    ],
)
def test_every_kind_of_failure_has_its_exit_code(kind, code):
    assert _code(_raise(kind("what", "remedy"))) == code


def test_the_second_ctrl_c_ends_at_once_with_130():
    def action(_console, stop):
        signal.raise_signal(signal.SIGINT)
        assert stop.reason == "SIGINT"
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still running")

    assert _code(action) == 130


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_is_a_request_and_handlers_are_put_back(name):
    before = signal.getsignal(getattr(signal, name))
    with session(quiet=True) as (_console, stop):
        signal.raise_signal(getattr(signal, name))
        assert stop.reason == name
    assert signal.getsignal(getattr(signal, name)) is before


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/some/place"),
        PermissionError(errno.EACCES, "Permission denied", "/some/place"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"),
    ],
)
def test_what_the_system_refuses_exits_with_8(error):
    assert _code(_raise(error)) == 8


def test_a_full_disk_is_named_with_its_place(capsys):
    with pytest.raises(typer.Exit), session():
        raise OSError(errno.ENOSPC, "No space left on device", "/some/place")
    err = capsys.readouterr().err
    assert "/some/place: No space left on device" in err
    assert "free some space" in err


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), session():
        raise ZeroDivisionError
    with pytest.raises(RuntimeError, match="ours"), session():
        raise RuntimeError("ours")
