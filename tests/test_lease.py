"""Leases of two machines that share a folder; machines are simulated by their names."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ness_cli import files, lease
from ness_cli.errors import LockedError
from ness_cli.files import guarded, remove_file, write_bytes
from ness_cli.lease import PATIENCE_SECONDS, Lease
from ness_cli.process_identity import ProcessIdentity, this_process
from ness_cli.run_dir import RunDir

HERE = Path(__file__).parent


def _of(host: str, path: Path, sleep=None, note=lambda _: None) -> Lease:
    identity = ProcessIdentity(host, f"machine of {host}", 7, "1")
    return Lease(path, holder=identity, sleep=sleep or _never, note=note)


def _never(_seconds):
    raise AssertionError("it should not wait")


class _Clock:
    """Counts the seconds that somebody waits; may do something meanwhile."""

    def __init__(self, meanwhile=lambda: None):
        self.seconds = 0.0
        self.meanwhile = meanwhile

    def __call__(self, seconds):
        self.seconds += seconds
        self.meanwhile()


def _files(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


def test_a_lease_given_back_is_taken_at_once_by_any_machine(tmp_path):
    path = tmp_path / ".lock"
    for number, host in enumerate("abab", 1):
        held = _of(host, path)
        held.acquire()
        held.check()
        assert _files(path) == [f".lock-{number}"]
        held.release()


def test_a_holder_on_another_machine_is_known_to_be_alive_by_a_touch(tmp_path):
    path = tmp_path / ".lock"
    first = _of("a", path)
    first.acquire()
    notes = []
    clock = _Clock(lambda: clock.seconds == 12 and first.touch())
    with pytest.raises(LockedError, match="is in use by process 7 on a"):
        _of("b", path, clock, notes.append).acquire()
    assert clock.seconds == pytest.approx(12, abs=1)
    assert len(notes) == 1
    assert "process 7 on a" in notes[0]
    first.check()


def test_a_silent_holder_on_another_machine_is_taken_over_after_the_stated_time(tmp_path):
    path, clock = tmp_path / ".lock", _Clock()
    first, second = _of("a", path), _of("b", path, clock)
    first.acquire()
    second.acquire()
    assert clock.seconds == pytest.approx(PATIENCE_SECONDS, abs=1)
    second.check()
    with pytest.raises(LockedError, match="taken over by process 7 on b"):
        first.check()
    # Whatever the first one still does leaves the second one its lease.
    for action in (first.touch, first.release, first.forget):
        action()
        second.check()
    assert _files(path) == [".lock-2"]


def test_who_lost_its_lease_writes_and_removes_nothing_any_more(tmp_path):
    run = tmp_path / "run"
    first = _of("a", run / ".lock")
    first.acquire()
    with guarded(run, first.check):
        write_bytes(run / "one", b"1")
        _of("b", run / ".lock", _Clock()).acquire()
        with pytest.raises(LockedError, match="process 7 on b"):
            write_bytes(run / "task-01" / "two", b"2")
        with pytest.raises(LockedError, match="process 7 on b"):
            write_bytes(run / "one", b"2")
        with pytest.raises(LockedError, match="process 7 on b"):
            remove_file(run / "one")
        with pytest.raises(LockedError, match="on b"), files.whole_folder(run / "more") as folder:
            (folder / "file").write_text("")
        write_bytes(tmp_path / "elsewhere", b"1")
    assert (run / "one").read_bytes() == b"1"
    assert sorted(path.name for path in run.rglob("*")) == [".lock-2", "one", "task-01"]


@pytest.mark.parametrize("skew", [-86400, 3600])
def test_clocks_that_differ_by_hours_change_nothing(tmp_path, skew):
    path = tmp_path / ".lock"
    first = _of("a", path)
    first.acquire()
    own = path.with_name(".lock-1")
    moment = [os.stat(own).st_mtime + skew]

    def touch():
        moment[0] += 1.0
        os.utime(own, (moment[0], moment[0]))

    touch()
    clock = _Clock(lambda: clock.seconds == 15 and touch())
    with pytest.raises(LockedError, match="on a"):
        _of("b", path, clock).acquire()
    assert clock.seconds == pytest.approx(15, abs=1)
    clock = _Clock()
    _of("b", path, clock).acquire()
    assert clock.seconds == pytest.approx(PATIENCE_SECONDS, abs=1)


def test_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path):
    me = this_process()
    dead = replace(me, started=str(int(me.started or 1) - 1))  # its number went on to another one
    Lease(tmp_path / ".lock", holder=dead).acquire()
    Lease(tmp_path / ".lock", sleep=_never).acquire()


def test_a_living_process_of_this_machine_is_never_taken_over(tmp_path):
    path = tmp_path / ".lock"
    first = Lease(path)
    first.acquire()
    with pytest.raises(LockedError, match=f"process {os.getpid()} on {os.uname().nodename}"):
        Lease(path, sleep=_never).acquire()
    clock = _Clock(lambda: clock.seconds > 3 * PATIENCE_SECONDS and first.release())
    Lease(path, sleep=clock).acquire(is_patient=True)
    assert clock.seconds > 3 * PATIENCE_SECONDS


def test_who_is_patient_waits_for_another_machine_and_is_not_misled_by_its_touches(tmp_path):
    path = tmp_path / ".lock"
    first = _of("a", path)
    first.acquire()

    def live():
        if clock.seconds < 5 * PATIENCE_SECONDS:
            first.touch()
        else:
            first.release()

    clock = _Clock(live)
    _of("b", path, clock).acquire(is_patient=True)
    assert 5 * PATIENCE_SECONDS <= clock.seconds <= 5 * PATIENCE_SECONDS + 1


def test_a_claim_that_comes_too_late_disturbs_nobody(tmp_path):
    path = tmp_path / ".lock"
    late = _of("late", path)
    _of("a", path).acquire()
    (judged,) = late._entries()
    # Meanwhile the lease went through two more hands, and the number it wants is free again.
    for host in "bc":
        holder = _of(host, path, _Clock())
        holder.acquire()
    assert not late._take_over(judged)
    holder.check()
    assert _files(path) == [".lock-3"]


def test_a_number_made_between_judging_and_claiming_wins_over_the_claim(tmp_path, monkeypatch):
    path = tmp_path / ".lock"
    late, faster, link = _of("late", path), _of("b", path), os.link

    def outrun(*names):
        if not faster._own:
            monkeypatch.setattr(os, "link", link)
            faster.acquire()
            faster.release()
            # Its number is the higher one although the claim for the lower one will succeed.
            os.rename(path.with_name(".lock-1"), path.with_name(".lock-2"))
        link(*names)

    monkeypatch.setattr(os, "link", outrun)
    assert not late._take_over(None)
    assert _files(path) == [".lock-2"]


def test_silence_of_one_holder_is_not_counted_against_the_next(tmp_path):
    path = tmp_path / ".lock"
    _of("gone", path).acquire()

    def taken_by_another():
        if clock.seconds == PATIENCE_SECONDS:
            _of("fast", path, _Clock()).acquire()

    clock = _Clock(taken_by_another)
    _of("slow", path, clock).acquire()
    assert clock.seconds == pytest.approx(2 * PATIENCE_SECONDS, abs=1)


def test_the_folder_of_a_lease_is_on_the_disk(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files, "_flush", flushed.append)
    with RunDir(tmp_path / "runs" / "run").lock():
        assert set(flushed) == {tmp_path, tmp_path / "runs"}


def test_a_copied_folder_is_held_by_nobody(tmp_path):
    run = RunDir(tmp_path / "run")
    with run.lock():
        shutil.copytree(run.path, tmp_path / "copy")
        with RunDir(tmp_path / "copy").lock():
            pass
        with pytest.raises(LockedError), run.lock():
            pass


def test_the_answer_to_a_link_may_be_lost(tmp_path, monkeypatch):
    link = os.link

    def answer_lost(*names):
        link(*names)
        raise FileExistsError

    monkeypatch.setattr(os, "link", answer_lost)
    held = _of("a", tmp_path / ".lock")
    held.acquire()
    held.check()


def _refused(*_names):
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", _refused)
    path = tmp_path / ".lock"
    first = _of("a", path)
    first.acquire()
    first.check()
    clock = _Clock(first.touch)
    with pytest.raises(LockedError, match="on a"):
        _of("b", path, clock).acquire()
    first.release()
    _of("b", path).acquire()


TORN = ["", "{", '{"holder": {\0\0\0']


@pytest.mark.parametrize("text", TORN)
def test_what_a_power_loss_left_of_an_entry_is_taken_over_at_once(tmp_path, text):
    path = tmp_path / ".lock"
    path.with_name(".lock-1").write_text(text)
    held = _of("a", path)
    held.acquire()
    held.check()
    assert _files(path) == [".lock-2"]


@pytest.mark.parametrize(
    ("text", "has_links"),
    [("[]", True), ('{"holder": 3}', True), *((each, False) for each in TORN)],
)
def test_an_entry_that_says_nothing_is_waited_for_and_taken_over(
    tmp_path, monkeypatch, text, has_links
):
    if not has_links:
        monkeypatch.setattr(os, "link", _refused)
    path, clock = tmp_path / ".lock", _Clock()
    path.with_name(".lock-1").write_text(text)
    held = _of("a", path, clock)
    held.acquire()
    held.check()
    assert clock.seconds == pytest.approx(PATIENCE_SECONDS, abs=1)


def test_who_holds_a_lease_is_shown_while_it_is_touched(tmp_path):
    path = tmp_path / ".lock"
    first = _of("a", path)
    assert first.holder() is None
    first.acquire()
    assert str(_of("b", path).holder()) == "process 7 on a"
    os.utime(path.with_name(".lock-1"), (1e9, 1e9))
    assert _of("b", path).holder() is None
    first.touch()
    first.release()
    assert _of("b", path).holder() is None
    with Lease(path).held():
        os.utime(path.with_name(".lock-2"), (1e9, 1e9))
        assert _of("b", path).holder() is None
        assert Lease(path).holder() == this_process()


def test_a_full_disk_is_named_with_the_place(tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lease.json, "dumps", full)  # the next thing after the file was opened
    with pytest.raises(OSError, match="No space left") as found:
        _of("a", tmp_path / ".lock").acquire()
    assert found.value.filename == str(tmp_path / ".lock")
    assert _files(tmp_path / ".lock") == []


def test_a_holder_touches_its_lease_while_it_works(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.001)
    path = tmp_path / ".lock"
    with Lease(path).held():
        own = path.with_name(".lock-1")
        os.utime(own, (1.0, 1.0))
        while os.stat(own).st_mtime == 1.0:
            pass
    assert os.stat(own).st_mtime == 0.0


@pytest.mark.parametrize("race", ["dead", "silent", "counting"])
def test_of_twenty_processes_one_wins(tmp_path, race):
    done = subprocess.run(
        [sys.executable, HERE / "lease_race.py", race, tmp_path],
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    found = json.loads(done.stdout)
    if race == "counting":
        assert found == [20 * 5]
    else:
        assert found == [1] * len(found)
