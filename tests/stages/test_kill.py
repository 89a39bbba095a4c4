"""Killed anywhere, typed again: the same bits. Real processes, real signals, chosen moments."""

from __future__ import annotations

import os
import random
import shutil
import signal
from itertools import chain, count
from pathlib import Path

import pytest
from forked import Moment, Processes

from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_state

SETTINGS = [
    "--preset",
    "digits",
    "data.num_tasks=3",
    "data.limit_per_class=30",
    "train.epochs=4",
    "train.batch_size=64",
    "net.hidden=[32, 32]",
    "net.dropout=0.1",
    "checkpoint.seconds=0",
    "storage.progress_picture=false",
    "--threads",
    "1",
]


def _run(processes: Processes, out: Path, *more: str, moment: Moment | None = None):
    return processes.ness("run", "--out", out, *SETTINGS, *more, moment=moment)


def _finish(processes: Processes, out: Path) -> None:
    ended = _run(processes, out)
    assert ended.code == 0, ended.err


def _files(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes() for path in run.rglob("task-*/*.safetensors")
    }


@pytest.fixture(scope="module")
def undisturbed(processes, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    _finish(processes, out)
    files = _files(out)
    assert len(files) == 3 * 3 + 2  # model, covariance, basis of each task; two updates
    return files


def test_two_undisturbed_runs_write_the_same_bytes(processes, undisturbed, tmp_path):
    _finish(processes, tmp_path / "again")
    assert _files(tmp_path / "again") == undisturbed


def _kill_until_done(processes: Processes, out: Path, rng: random.Random) -> int:
    """Start and kill -9 at random moments until a run ends by itself; return how many kills."""
    for kills in range(100):
        ended = _run(processes, out, moment=Moment(str(out), rng.randint(1, 250)))
        if ended.code == 0:
            return kills
        assert ended.code == -signal.SIGKILL, ended.err
    raise AssertionError("it never ended")


def test_killed_at_random_moments_it_ends_with_the_same_bytes(processes, undisturbed, tmp_path):
    kills = _kill_until_done(processes, tmp_path / "run", random.Random(1))
    assert kills >= 2
    assert _files(tmp_path / "run") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_many_more_moments_it_ends_with_the_same_bytes(
    processes, undisturbed, tmp_path, seed
):
    kills = _kill_until_done(processes, tmp_path / "run", random.Random(100 + seed))
    assert kills >= 2
    assert _files(tmp_path / "run") == undisturbed


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_stops_at_a_step_boundary_with_75_and_resuming_gives_the_same_bytes(
    processes, undisturbed, tmp_path, name
):
    out = tmp_path / "run"
    checkpoint = out / "task-02" / "checkpoint.safetensors"
    moment = Moment(str(checkpoint), 3, touch="os.rename", signal=getattr(signal, name))
    ended = _run(processes, out, moment=moment)
    assert ended.code == 75, ended.err
    assert f"stopped by {name}" in ended.err
    assert "to go on, run: ness " in ended.err
    assert checkpoint.exists()
    _finish(processes, out)
    assert not checkpoint.exists()
    assert _files(out) == undisturbed


def test_extend_killed_anywhere_leaves_the_old_sequence_or_the_new(
    processes, tmp_path, monkeypatch
):
    cache, plain, out = (tmp_path / name for name in ("cache", "plain", "run"))
    monkeypatch.setenv("NESS_CACHE", str(cache))
    small = ["data.num_tasks=1", "data.limit_per_class=3", "net.hidden=[4]", "train.epochs=1"]
    assert processes.ness("prepare", "--preset", "digits", "--out", plain, *small).code == 0
    prepared = read_state(RunDir(plain))
    shutil.copytree(plain, out)
    # While images are prepared; then at one moment after another in the run, until it is through.
    moments = chain([Moment(str(cache), 30)], (Moment(str(out), n) for n in count(1, 8)))
    ends = []
    for moment in moments:
        ended = processes.ness("extend", out, "data.num_tasks=2", moment=moment)
        num_tasks = read_state(RunDir(out)).num_tasks
        ends.append((ended.code, num_tasks))
        if ended.code == 0:
            break
        assert ended.code == -signal.SIGKILL, ended.err
        if num_tasks == prepared.num_tasks:
            assert (out / "run.json").read_bytes() == (plain / "run.json").read_bytes()
        else:
            shutil.rmtree(out)
            shutil.copytree(plain, out)
    assert ends[0] == ends[1] == (-signal.SIGKILL, 1)
    assert ends[-1] == (0, 3)
    ended = processes.ness("run", "--out", out, "--threads", "1")
    assert ended.code == 0, ended.err
    assert not list(out.rglob(".*.tmp"))
    assert read_state(RunDir(out)).next() is None


def test_the_step_commands_as_processes_give_the_bytes_of_run(processes, undisturbed, tmp_path):
    out = tmp_path / "run"
    prepare = [s for s in SETTINGS if s not in ("--threads", "1")]
    assert processes.ness("prepare", "--out", out, *prepare).code == 0
    for _ in range(3):
        for step in ("train-task", "build-subspace", "evaluate"):
            ended = processes.ness(step, out, "--threads", "1")
            assert ended.code == 0, ended.err
    assert _files(out) == undisturbed


def test_a_second_process_is_refused_with_the_holders_pid_and_host(processes, tmp_path):
    out = tmp_path / "run"
    checkpoint = str(out / "task-01" / "checkpoint.safetensors")
    held = Moment(checkpoint, 1, touch="os.rename", signal=signal.SIGSTOP)
    first = _run(processes, out, moment=held)
    assert first.code == -signal.SIGSTOP, first.err
    try:
        second = processes.ness("train-task", out)
    finally:
        os.kill(first.pid, signal.SIGKILL)
    assert second.code == 7
    assert f"process {first.pid} on {os.uname().nodename}" in second.err
