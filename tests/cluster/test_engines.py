"""Studies on Slurm and on Ray, disturbed, beside the same study undisturbed on this machine.

``make test-cluster`` starts what is needed; root is.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disturbed import (
    FULL,
    NAMES,
    go_on_once_signalled,
    has_checkpoint,
    larger_disk,
    ness,
    no_disk,
    parent_of,
    small_disk,
    states,
    stops,
    suspend,
    table,
    tensors,
    wait_until,
    write_study,
)

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif("NESS_TEST_CLUSTER" not in os.environ, reason="make test-cluster starts it"),
]
PORT = 6399  # not among those that Ray gives to workers
TRIES = 5
NO_DASHBOARD = "--include-dashboard=false"


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """The study on this machine, undisturbed; one that is there already may be named."""
    if "NESS_TEST_LOCAL" in os.environ:
        return Path(os.environ["NESS_TEST_LOCAL"])
    folder = tmp_path_factory.mktemp("local")
    ended = ness("study", "run", write_study(folder), "--out", folder / "out", "--device", "cpu")
    assert ended.returncode == 0, ended.stderr
    return folder / "out"


@pytest.fixture
def out(tmp_path) -> Iterator[Path]:
    """The folder of a study of which one run has a small disk."""
    small_disk(tmp_path / "out" / FULL)
    yield tmp_path / "out"
    no_disk(tmp_path / "out" / FULL)


def _compare(out: Path, local: Path) -> None:
    assert set(states(out).values()) == {"done"}
    assert table(out) == table(local)
    found, expected = tensors(out), tensors(local)
    assert found == expected
    assert len(found) > 2 * len(NAMES)


def _disturb(out: Path, name: str, strike: Callable[[], None]) -> Callable[[], None]:
    """Return what strikes a run once, when it has a checkpoint."""
    struck = []

    def look() -> None:
        if not struck and has_checkpoint(out, name):
            struck.append(name)
            strike()

    return look


# -- Slurm ---------------------------------------------------------------------------------------


def _slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _queue() -> list[list[str]]:
    return [
        line.split("|")
        for line in _slurm("squeue", "-h", "-r", "-o", "%F_%K|%T|%r|%M").splitlines()
    ]


def _let_go() -> None:
    """Start what was queued again, with all its time: Slurm itself waits two minutes."""
    for job, state, reason, _ in _queue():
        if state == "PENDING" and reason == "BeginTime":
            changes = ["StartTime=now", "TimeLimit=30"]
            subprocess.run(["scontrol", "update", f"JobId={job}", *changes], check=False)


def _slurm_id(name: str) -> str:
    return f"{_queue()[0][0].partition('_')[0]}_{NAMES.index(name)}"


def _set_limit(name: str, minutes: int) -> None:
    """Let a job that runs end some minutes from now, to the minute."""
    (elapsed,) = [each[3] for each in _queue() if each[0] == _slurm_id(name)]
    limit = int(elapsed.split(":")[-2]) + minutes
    _slurm("scontrol", "update", f"JobId={_slurm_id(name)}", f"TimeLimit={limit}")


def test_slurm(tmp_path, out, local):
    options = ["engines.slurm.time=00:30:00", "engines.slurm.lead_seconds=60", "--device", "cpu"]
    command = ["study", "run", write_study(tmp_path), "--out", out, "--on", "slurm", *options]
    submitted = ness(*command, "--jobs", 2)
    assert submitted.returncode == 0, submitted.stderr
    assert states(out) == dict.fromkeys(NAMES, "waiting")
    # A run is suspended until its signal has come: it may be faster than Slurm.
    suspended: list[int] = []

    def requeue():
        suspend(out, "ness/seed-1")  # Slurm lets it go on, with SIGTERM
        _slurm("scontrol", "requeue", _slurm_id("ness/seed-1"))

    def signal_it():
        suspended.append(suspend(out, "gpm/seed-1"))
        # It tries again for a minute and a half where the job has reacted already.
        command = ["timeout", "3", "scancel", "--signal=USR1", _slurm_id("gpm/seed-1")]
        subprocess.run(command, check=False)

    def come_to_the_signal():
        suspended.append(suspend(out, "ness/seed-3"))
        _set_limit("ness/seed-3", 2)

    def come_to_the_limit():
        suspend(out, "ewc/seed-1")  # Slurm lets it go on, with SIGTERM
        _set_limit("ewc/seed-1", 1)

    looks = [
        _disturb(out, "ness/seed-1", requeue),
        _disturb(out, "ness/seed-3", come_to_the_signal),
        _disturb(out, "gpm/seed-1", signal_it),
        _disturb(out, "ewc/seed-1", come_to_the_limit),
    ]

    def meanwhile():
        for look in (*looks, _let_go):
            look()
        suspended[:] = [p for p in suspended if not go_on_once_signalled(p, signal.SIGUSR1)]

    wait_until(lambda: not _queue(), meanwhile)
    found = states(out)
    assert found.pop(FULL) == "failed"
    assert set(found.values()) == {"done"}  # nothing had to be typed again
    assert states(out, "why")[FULL].startswith(f"{out / FULL}: the disk has")
    larger_disk(out / FULL)
    again = ness(*command, "--only-failed", "engines.slurm.wait=true")
    assert again.returncode == 0, again.stderr
    _compare(out, local)
    assert stops(out, "ness/seed-1") == ["SIGTERM"]
    assert stops(out, "ness/seed-3") == ["SIGUSR1"]
    assert stops(out, "gpm/seed-1") == ["SIGUSR1"]
    assert stops(out, "ewc/seed-1") in (["SIGTERM"], ["SIGUSR1"])  # both come at once
    for name in NAMES[:-1]:
        stops(out, name)


def test_slurm_stops_a_study_and_goes_on_with_it(tmp_path, local):
    out = tmp_path / "out"
    command = ["study", "run", write_study(tmp_path), "--out", out, "--on", "slurm"]
    command += ["--device", "cpu", "--rows", "ness"]
    assert ness(*command).returncode == 0
    wait_until(lambda: has_checkpoint(out, "ness/seed-1"))
    stopped = ness("study", "stop", out)
    assert stopped.returncode == 0, stopped.stderr
    wait_until(lambda: not _queue())
    assert set(states(out).values()) <= {"stopped", "waiting"}
    again = ness(*command, "engines.slurm.wait=true")
    assert again.returncode == 0, again.stderr
    assert stops(out, "ness/seed-1") == ["SIGTERM"]
    expected = {name: value for name, value in tensors(local).items() if name.startswith("ness/")}
    assert tensors(out) == expected


# -- Ray -----------------------------------------------------------------------------------------


# The machine may be busy with other things: a node that is late is not lost.
PATIENCE = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_raylet_start_wait_time_s": "45",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_health_check_failure_threshold": "60",
    "RAY_health_check_period_ms": "10000",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_worker_register_timeout_seconds": "600",
}


def _start_node(number: int, *options: str) -> subprocess.Popen[str]:
    """Start a node of Ray, and wait until it is up; it ends with its process.

    A node gives up when its agents, other processes, are not up after 15 seconds, whatever it was
    told. On a busy machine they may take longer, so it is tried several times.
    """
    agents = (
        "dashboard-agent-grpc",
        "dashboard-agent-listen",
        "metrics-export",
        "runtime-env-agent",
    )
    ports = [f"--{agent}-port={PORT + 1 + 4 * number + i}" for i, agent in enumerate(agents)]
    program = shutil.which("ray", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    small = ["--object-store-memory=80000000", "--disable-usage-stats"]
    command = [program, "start", "--block", *small, *ports, *options]
    said = []
    for _ in range(TRIES):
        out, together = subprocess.PIPE, subprocess.STDOUT
        node = subprocess.Popen(command, stdout=out, stderr=together, text=True)
        for line in node.stdout:
            said.append(line)
            if "will now block" in line:
                return node
        _end_node(node)
    raise AssertionError("".join(said))


def _end_node(node: subprocess.Popen[str]) -> None:
    node.terminate()
    node.wait()
    node.stdout.close()


@pytest.fixture
def ray_cluster(monkeypatch) -> Iterator[None]:
    """A head without CPUs and two nodes with one each."""
    for name, value in PATIENCE.items():
        monkeypatch.setenv(name, value)
    nodes = []
    try:
        nodes.append(_start_node(0, "--head", f"--port={PORT}", "--num-cpus=0", NO_DASHBOARD))
        for number in (1, 2):
            nodes.append(_start_node(number, f"--address=127.0.0.1:{PORT}", "--num-cpus=1"))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{PORT}")
        yield
    finally:
        for node in reversed(nodes):
            _end_node(node)


@pytest.mark.usefixtures("ray_cluster")
def test_ray(tmp_path, out, local):
    command = ["study", "run", write_study(tmp_path), "--out", out, "--on", "ray"]
    command = [sys.executable, "-m", "ness_cli", *map(str, command), "--device", "cpu"]

    def signal_it():
        pid = suspend(out, "gpm/seed-1")
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGCONT)

    def lose_a_worker():
        # Its command is asked to save, and another worker goes on.
        pid = suspend(out, "ness/seed-1")
        os.kill(parent_of(pid), signal.SIGKILL)
        os.kill(pid, signal.SIGCONT)

    looks = [_disturb(out, "gpm/seed-1", signal_it), _disturb(out, "ness/seed-1", lose_a_worker)]
    said = tmp_path / "stderr"
    with said.open("w") as stderr:
        study = subprocess.Popen(command, stderr=stderr)
    wait_until(lambda: study.poll() is not None, lambda: [look() for look in looks])
    assert study.returncode == 9, said.read_text()
    found = states(out)
    assert found.pop(FULL) == "failed"
    assert set(found.values()) == {"done"}
    larger_disk(out / FULL)
    again = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    assert again.returncode == 0, again.stderr
    _compare(out, local)
    assert stops(out, "ness/seed-1") == ["SIGTERM"]
    assert stops(out, "gpm/seed-1") == ["SIGUSR1"]
