"""Killed anywhere, typed again: the same bits. Real processes, real signals."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SETTINGS = [
    "--preset",
    "digits",
    "data.num_tasks=3",
    "train.epochs=4",
    "net.hidden=[32, 32]",
    "net.dropout=0.1",
    "checkpoint.seconds=0",
    "--threads",
    "1",
]


def _run(out: Path, *more: str, **kwargs) -> subprocess.Popen:
    command = [sys.executable, "-m", "ness_cli", "run", "--out", str(out), *SETTINGS, *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kwargs)


def _finish(out: Path, *more: str) -> None:
    process = _run(out, *more)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()


def _files(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes() for path in run.rglob("task-*/*.safetensors")
    }


def _wait_for(condition, process: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    _finish(out)
    files = _files(out)
    assert len(files) == 3 * 3 + 2  # model, covariance, basis of each task; two updates
    return files


def test_two_undisturbed_runs_write_the_same_bytes(undisturbed, tmp_path):
    _finish(tmp_path / "again")
    assert _files(tmp_path / "again") == undisturbed


def _kill_until_done(out: Path, rng: random.Random, most: float) -> int:
    """Start and kill -9 after random times until a run ends by itself; return how many kills."""
    for kills in range(120):
        process = _run(out)
        try:
            # Counted from when the run folder's lock shows that work has begun.
            _wait_for(
                lambda p=process: (out / ".lock-holder.json").exists() or p.poll() == 0, process
            )
            process.wait(timeout=rng.uniform(0.0, most))
        except subprocess.TimeoutExpired:
            process.kill()
        _, err = process.communicate()
        if process.returncode == 0:
            return kills
        assert process.returncode == -signal.SIGKILL, err.decode()
        (out / ".lock-holder.json").unlink(missing_ok=True)
    raise AssertionError("it never ended")


def test_killed_at_random_moments_it_ends_with_the_same_bytes(undisturbed, tmp_path):
    kills = _kill_until_done(tmp_path / "run", random.Random(1), most=2.5)
    assert kills >= 2
    assert _files(tmp_path / "run") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_many_more_moments_it_ends_with_the_same_bytes(undisturbed, tmp_path, seed):
    kills = _kill_until_done(tmp_path / "run", random.Random(seed), most=1.6)
    assert kills >= 2
    assert _files(tmp_path / "run") == undisturbed


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_stops_at_a_step_boundary_with_75_and_resuming_gives_the_same_bytes(
    undisturbed, tmp_path, name
):
    out = tmp_path / "run"
    process = _run(out)
    checkpoint = out / "task-02" / "checkpoint.safetensors"
    _wait_for(checkpoint.exists, process)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err.decode()
    assert f"stopped by {name}" in err.decode()
    assert "to go on, run: ness " in err.decode()
    _finish(out)
    assert not checkpoint.exists()
    assert _files(out) == undisturbed


def test_the_step_commands_as_processes_give_the_bytes_of_run(undisturbed, tmp_path):
    out = str(tmp_path / "run")
    ness = [sys.executable, "-m", "ness_cli"]
    prepare = [s for s in SETTINGS if s not in ("--threads", "1")]
    subprocess.run([*ness, "prepare", "--out", out, *prepare], check=True, capture_output=True)
    for _ in range(3):
        for step in ("train-task", "build-subspace", "evaluate"):
            subprocess.run([*ness, step, out, "--threads", "1"], check=True, capture_output=True)
    assert _files(tmp_path / "run") == undisturbed


def test_a_second_process_is_refused_with_the_holders_pid_and_host(tmp_path):
    out = tmp_path / "run"
    first = _run(out, "train.epochs=200")
    try:
        _wait_for((out / "task-01" / "checkpoint.safetensors").exists, first)
        second = subprocess.run(
            [sys.executable, "-m", "ness_cli", "train-task", str(out)],
            capture_output=True,
            timeout=60,
            check=False,
        )
    finally:
        first.kill()
        first.communicate()
    assert second.returncode == 7
    message = second.stderr.decode()
    assert f"process {first.pid} on {os.uname().nodename}" in message
