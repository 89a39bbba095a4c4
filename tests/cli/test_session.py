from __future__ import annotations

import errno
import json
import os
import signal
import sys

import pytest
import typer

from ness_cli.cli.session import session
from ness_cli.errors import (
    DamagedError,
    InputError,
    LockedError,
    MissingFilesError,
    NessError,
    NumericalError,
    SettingsError,
    StoppedError,
    SystemRefusedError,
)


def _code(action) -> int:
    with pytest.raises(typer.Exit) as end, session(quiet=True) as workplace:
        action(workplace.console, workplace.stop)
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


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (SettingsError("what", "remedy"), "settings", 2),
        (MissingFilesError("what", "remedy"), "missing-files", 4),
        (StoppedError("what", "remedy"), "stopped", 75),
        (MemoryError("what"), "system-refused", 8),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_with_json_a_failure_is_the_document_and_stderr_says_it_too(error, kind, code, capsys):
    with pytest.raises(typer.Exit) as end, session(json=True):
        raise error
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["schema"] == "ness.error/1"
    assert (document["error"]["kind"], document["error"]["exit_code"]) == (kind, code)
    assert end.value.exit_code == code
    assert document["error"]["what"] in err


def test_the_kind_of_a_failure_tells_its_exit_code():
    codes, left = {}, [NessError]
    while left:
        one = left.pop()
        left += one.__subclasses__()
        assert codes.setdefault(one.kind, one.exit_code) == one.exit_code
    assert len(codes) > 8


def test_a_document_that_is_printed_stays_the_only_one(capsys):
    def action(console):
        console.document({"a": 1})
        raise SettingsError("what", "remedy")

    with pytest.raises(typer.Exit), session(json=True) as workplace:
        action(workplace.console)
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_a_bug_is_a_document_too_and_keeps_its_traceback(capsys):
    with pytest.raises(ZeroDivisionError), session(json=True):
        raise ZeroDivisionError("by nothing")
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["exit_code"]) == ("internal", 1)
    assert error["what"] == "ZeroDivisionError: by nothing"


def test_a_command_has_one_workplace(monkeypatch, tmp_path):
    monkeypatch.setenv("NESS_CACHE", str(tmp_path))
    with session(device="cuda:1", threads=3) as workplace:
        assert (workplace.cache, workplace.device, workplace.threads) == (tmp_path, "cuda:1", 3)
        assert workplace.console is workplace.progress


def test_a_stop_names_the_way_on_of_who_started_the_work():
    for way_on, shown in (("ness run --out a", "ness run --out a"), ("", "ness train-task a")):
        with session(quiet=True, way_on=way_on) as workplace:
            workplace.stop.request("SIGTERM")
            with pytest.raises(StoppedError) as end:
                workplace.stop.check("all is saved", "ness train-task a")
        assert end.value.remedy == f"to go on, run: {shown}"


def test_the_second_ctrl_c_ends_at_once_with_130():
    def action(_console, stop):
        signal.raise_signal(signal.SIGINT)
        assert stop.reason == "SIGINT"
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still running")

    assert _code(action) == 130


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT"])
def test_a_signal_is_a_request_and_handlers_are_put_back(name):
    before = signal.getsignal(getattr(signal, name))
    with session(quiet=True) as workplace:
        signal.raise_signal(getattr(signal, name))
        assert workplace.stop.reason == name
    assert signal.getsignal(getattr(signal, name)) is before


def test_a_hang_up_below_nohup_is_ignored_still():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with session(quiet=True) as workplace:
            signal.raise_signal(signal.SIGHUP)
            assert workplace.stop.reason == ""
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_gone_stops_nothing(monkeypatch):
    here, there = os.openpty()
    with os.fdopen(there, "w") as terminal:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, terminal)
        with session() as workplace:
            os.close(here)  # as when its window is closed
            workplace.console.note("nobody reads this")
            workplace.console.result("nor this")
            workplace.console.plain("nor this")
            signal.raise_signal(signal.SIGHUP)
            assert workplace.stop.reason == "SIGHUP"


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
