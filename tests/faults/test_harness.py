"""The harness notices what loses files: without that its figures say nothing."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import sys
from dataclasses import replace

import pytest
from faults import __main__ as harness
from faults.broken import WRITERS
from faults.contents import comparable, state_of, without_times
from faults.power import Disk, put, states
from faults.scenes import SCENES, World
from faults.trials import Trials
from forked import Ended

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="paths of handles from /proc")

SCENE = replace(SCENES["presets cp"], codes=())  # one file, without torch
CAUGHT_BY = {
    "in place": "killed in a write",
    "renamed first": "kill -9",
    "silent": "disk full",
    "without flush": "names",
    "without flush of the folder": "nothing",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, processes):
    folder = tmp_path_factory.mktemp("harness")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NESS_CACHE", str(folder / "world" / "here" / "cache"))
        yield World(folder / "world", processes)


@pytest.fixture(scope="module")
def played(world, tmp_path_factory):
    trials = Trials(world, tmp_path_factory.mktemp("played"))
    trials.calls(SCENE)
    return trials


def _try(trials, by):
    if by in ("names", "nothing"):
        for disk in trials.disks(SCENE):
            if disk["mode"] == by:
                trials.lose_power(SCENE, disk)
        return
    for number in trials.points(SCENE, by):
        trials.strike(SCENE, by, number)


@pytest.mark.parametrize("writer", CAUGHT_BY)
def test_a_writer_that_loses_files_is_noticed(world, tmp_path, writer):
    sound, broken = (Trials(world, tmp_path, each) for each in ("", writer))
    for trials in (sound, broken):
        _try(trials, CAUGHT_BY[writer])
        assert trials.tally.tried.total() > 0
        assert trials.tally.missed == []
    assert sound.tally.losses == []
    assert broken.tally.losses != []


def test_every_broken_writer_is_tried():
    assert WRITERS.keys() == {*CAUGHT_BY, "past the layer"}


def test_a_file_that_is_written_past_the_layer_is_noticed(world, tmp_path):
    with pytest.raises(AssertionError, match=r"writes past the layer: .*mine\.yaml"):
        Trials(world, tmp_path, "past the layer").calls(SCENE)


def test_a_fault_that_never_strikes_is_not_counted(world, tmp_path):
    trials = Trials(world, tmp_path)
    trials.strike(SCENE, "kill -9", 10_000)
    trials.strike(SCENE, "killed in a write", trials.points(SCENE, "kill -9")[-1])
    assert trials.tally.tried.total() == 0
    assert len(trials.tally.missed) == 2


def test_a_file_in_a_folder_of_the_command_is_not_seen_by_the_folder(world, tmp_path):
    trials, made = Trials(world, tmp_path), world.here / "made"
    world.begin(SCENE)
    made.mkdir()
    (made / "file").write_text("")
    for kind, unseen in (("mkdir", [str(made / "file")]), ("rename", [])):
        trials._calls[SCENE.name] = [(kind, str(made))]
        assert list(trials._unseen(SCENE, {})) == unseen


@pytest.mark.parametrize(
    ("what", "ended", "problem"),
    [
        ("disk full", (8, "", "error: full\n  fix: make room"), ""),
        ("disk full", (4, "", "error: gone\n  fix: make room"), "exit code 4"),
        ("disk full", (8, "", "error: full"), "no remedy"),
        ("disk full", (8, "", "Traceback (most recent call last)\n  fix: "), "a traceback"),
        ("disk full", (0, "said", ""), ""),
        ("disk full", (0, "", ""), "it printed something else"),
        ("SIGTERM", (-15, "", ""), "exit code -15"),
        ("kill -9", (0, "said", ""), "exit code 0"),
    ],
)
def test_how_a_command_meets_a_fault_is_judged(played, monkeypatch, what, ended, problem):
    monkeypatch.setattr(played.world, "others", lambda _scene: [])
    monkeypatch.setitem(played._words, SCENE.name, "said")
    found = played._problem_at_once(SCENE, what, Ended(0, *ended))
    assert problem in found
    assert bool(problem) is bool(found)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("steps  loss    s\n    1  0.69  0.1", "steps  loss     s\n    1  0.69  12.0", True),
        ("steps  loss    s\n    1  0.69  0.1", "steps  loss    s\n    1  0.68  0.1", False),
        ("steps    s\n    1  0.1\n\nACC  9", "steps    s\n    1  0.1\n\nACC  8", False),
        ("done in 0.1 s", "done in 3 s", True),
        ("done in 0.1 s", "done in 87600 h 05 m", True),
        ("done in 0.1 s", "done in 2 m 05 s", True),
        ("40.6 kB  440.1 MB", "40.6 kB  441.0 MB", True),
        ("40.6 kB  440.1 MB", "41.6 kB  440.1 MB", False),
        ("done 1", "done 2", False),
    ],
)
def test_what_is_printed_is_compared_but_for_its_times(one, other, is_same):
    assert (without_times(one) == without_times(other)) is is_same


def test_exit_code_0_is_not_believed_where_files_are_others(played):
    played.world.begin(SCENE)
    found = played._problem_at_once(SCENE, "disk full", Ended(0, 0, "", ""))
    assert "these are not what they should be: mine.yaml" in found


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda _here: None, ""),
        (lambda here: (here / "mine.yaml").write_text(""), "typed again it ends with"),
        (lambda here: (here / "more").mkdir(), "other content: more"),
        (lambda here: (here / ".a.b.tmp").write_text(""), "left behind"),
        (lambda here: (here / "run.json").write_text("{"), "the run does not read back"),
    ],
)
def test_what_a_command_leaves_after_a_fault_is_judged(played, monkeypatch, harm, problem):
    # As one that holds its folder as its own, and may be typed again.
    scene, world = replace(SCENE, name="export", done=lambda _here: False), played.world
    monkeypatch.setitem(world._expected, scene.name, world._expected[SCENE.name])
    world.begin(scene)
    harm(world.here)
    found = played._problem_after(scene)
    assert problem in found
    assert bool(problem) is bool(found)


def test_a_command_that_no_fault_strikes_is_not_passed_over(monkeypatch, capsys):
    monkeypatch.setattr(harness, "_try", lambda *_: None)
    monkeypatch.setattr(harness, "Processes", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(sys, "argv", ["faults", "--scenes", "status"])
    monkeypatch.setattr(harness.signal, "signal", lambda *_: None)
    monkeypatch.setenv("NESS_CACHE", "")
    assert harness.main() == 1
    assert "not tried, or not to its end: status: no fault struck" in capsys.readouterr().out


def test_modes_folders_and_seals_are_compared(tmp_path):
    path = tmp_path / "train.json"
    rest = {"seconds": 1.5}
    seal = hashlib.sha256(json.dumps(rest).encode()).hexdigest()
    path.write_text(json.dumps({**rest, "seal": seal}))
    seen = [comparable(tmp_path)]
    path.write_text(json.dumps({**rest, "seal": "0" * 64}))
    seen.append(comparable(tmp_path))
    path.chmod(0o600)
    seen.append(comparable(tmp_path))
    (tmp_path / "empty").mkdir()
    seen.append(comparable(tmp_path))
    assert all(a != b for a, b in itertools.pairwise(seen))


def test_what_is_compared_are_all_files_but_their_times(tmp_path):
    record, tensors = tmp_path / "train.json", tmp_path / "model.safetensors"

    def written(record_value, tensor_bytes, seconds):
        record.write_text(json.dumps({"value": record_value, "seconds": seconds}))
        tensors.write_bytes(tensor_bytes)
        return comparable(tmp_path)

    first = written(1, b"one", 0.5)
    assert written(1, b"one", 0.7) == first
    assert written(2, b"one", 0.5) != first
    assert written(1, b"two", 0.5) != first
    assert first.keys() == {record.name, tensors.name}


def test_a_torn_record_and_a_held_lease_are_other_states(tmp_path):
    (tmp_path / "log.txt").write_text("a line\n")
    lease = tmp_path / ".lock-1"
    lease.write_text("{}")
    seen = {state_of(tmp_path)}
    os.utime(lease, ns=(0, 0))
    seen.add(state_of(tmp_path))
    (tmp_path / "log.txt").write_text("a line\nhalf")
    seen.add(state_of(tmp_path))
    assert len(seen) == 3


def _left(disk, out, kind="write"):
    """Return the bytes of every file on every kind of disk that may be left now."""
    disk.before(kind, "")
    found = {}
    for state in states(out):  # one that is as before is not written down again
        files = {os.path.basename(p): (out / "blobs" / d) for p, d in state["files"].items()}
        found[state["mode"]] = {name: blob.read_bytes() for name, blob in files.items()}
    return found


def test_a_power_loss_leaves_what_was_flushed_and_maybe_more(tmp_path):
    folder, out = tmp_path / "here", tmp_path / "out"
    folder.mkdir()
    (folder / "old").write_bytes(b"before")
    disk = Disk([str(folder)], out)
    path = folder / "new"
    path.write_bytes(b"content!")
    left = _left(disk, out)
    assert left["nothing"] == {"old": b"before"}
    assert left["names"] == {"old": b"before", "new": b""}
    assert left["halves"]["new"] == b"cont\0\0\0\0"
    with path.open("rb") as file:
        disk.after_fsync(file.fileno(), str(path))
    os.replace(path, folder / "old")
    left = _left(disk, out)
    assert left["nothing"] == {"old": b"before"}  # the name was not flushed
    assert left["names"] == {"old": b"content!"}
    handle = os.open(folder, os.O_RDONLY)
    disk.after_fsync(handle, str(folder))
    os.close(handle)
    assert _left(disk, out, "end")["nothing"] == {"old": b"content!"}
    *_, state = states(out)
    for file in folder.iterdir():
        file.unlink()
    put(state, out)
    assert (folder / "old").read_bytes() == b"content!"
