"""How far a run is, told from its files by somebody who looks on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from followed import made_up

from ness_cli.lease import Lease
from ness_cli.process_identity import ProcessIdentity, this_process
from ness_cli.results.live_status import read_live

NOW = 1_000_000.0
ME = this_process()
DEAD = replace(ME, pid=2**22 + 1)  # no system hands out such a number: Linux ends at 2**22
ELSEWHERE = ProcessIdentity("elsewhere", "another machine", 7, "1")


def _run(folder: Path, num_done: int = 1, *, num_tasks: int = 3) -> Path:
    """Make up a run whose steps took 100, 10 and 1 seconds, with training about to go on."""
    path = made_up(folder, num_done, num_tasks=num_tasks).path
    for t in range(1, num_done + 1):
        for name, seconds in (("train", 100.0), ("subspace", 10.0), ("accuracy", 1.0)):
            file = path / f"task-{t:02d}" / f"{name}.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), "seconds": seconds}))
    return path


def _works(path: Path, process: ProcessIdentity = ME, **more: object) -> None:
    """Let a process work on it: it holds the run, and writes down how far it is."""
    Lease(path / ".lock", holder=process).acquire()
    progress = {"what": "task 2/3: training", "done": 25, "total": 100, "info": "epoch 1/4"}
    progress |= {"seconds_per_unit": 2.0, "updated": NOW - 10, "device": "cpu"}
    progress |= {"peak_memory_bytes": 10**9, "process": asdict(process), **more}
    (path / "progress.json").write_text(json.dumps(progress))


def test_what_is_left_of_the_step_and_of_the_run_follows_from_its_speed_and_earlier_tasks(tmp_path):
    path = _run(tmp_path)
    _works(path)
    found = read_live(path, NOW)
    assert found.worker == ME
    assert found.step_seconds == 75 * 2 - 10
    # The rest of training, building and evaluating task 2, and all of task 3.
    assert found.run_seconds == 140 + 10 + 1 + 111
    text = "; ".join([found.headline, *found.details])
    assert "gpm, 1/3 tasks done, ACC 90.00 %" in text
    assert "task 2/3: training" in text
    assert "25 %, epoch 1/4" in text
    assert "2 m 20 s left of this step, about 4 m 22 s of the run, cpu, 1.0 GB at most" in text
    assert text.endswith(f"process {ME.pid} on {ME.host}")


def test_in_the_first_task_the_others_are_taken_to_train_as_long(tmp_path):
    path = _run(tmp_path, 0)
    _works(path)
    assert read_live(path, NOW).run_seconds == 140 + 2 * 200


def test_before_anything_tells_nothing_is_estimated(tmp_path):
    path = _run(tmp_path, 0)
    _works(path, seconds_per_unit=None)
    found = read_live(path, NOW)
    assert (found.step_seconds, found.run_seconds) == (None, None)
    assert "left" not in "; ".join(found.details)


def test_a_gpu_is_told_with_its_memory(tmp_path):
    path = _run(tmp_path)
    _works(path, device="NVIDIA H200", device_bytes=140 * 10**9, device_free_bytes=100 * 10**9)
    assert "NVIDIA H200, 1.0 GB at most, 40.0 GB of 140.0 GB in use on it" in "".join(
        read_live(path, NOW).details
    )


@pytest.mark.parametrize("was_killed", [True, False])
def test_a_run_that_no_process_works_on_is_said_to_be_so_with_what_to_type(tmp_path, was_killed):
    path = _run(tmp_path)
    if was_killed:
        _works(path, DEAD)  # what it wrote is still there
    found = read_live(path, NOW)
    assert found.worker is None
    assert (found.step_seconds, found.run_seconds) == (None, None)
    (line,) = found.details
    assert line.startswith("no process works on it")
    assert (f"process {DEAD.pid} on {DEAD.host} has ended" in line) is was_killed
    assert line.endswith(f"train-task of task 2 is next: ness train-task {path}")


def test_what_a_killed_process_wrote_is_not_taken_for_that_of_the_next_one(tmp_path):
    path = _run(tmp_path)
    _works(path, DEAD)
    Lease(path / ".lock").acquire()
    found = read_live(path, NOW)
    assert found.worker == ME
    assert not found.progress


def test_a_process_on_another_machine_counts_for_as_long_as_it_is_heard_of(tmp_path):
    path = _run(tmp_path)
    _works(path, ELSEWHERE)
    assert read_live(path, NOW).worker == ELSEWHERE
    os.utime(path / ".lock-1", (NOW, NOW))
    assert read_live(path, NOW).worker is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"done": "x"}'])
def test_progress_that_cannot_be_read_is_none(tmp_path, content):
    path = _run(tmp_path)
    _works(path)
    (path / "progress.json").write_text(content)
    assert not read_live(path, NOW).progress


def test_a_finished_run_is_done(tmp_path):
    found = read_live(_run(tmp_path, 3), NOW)
    assert found.is_done
    assert found.details == ["done"]
    assert "3/3 tasks done, ACC 80.00 %, BWT -15.00" in found.headline
