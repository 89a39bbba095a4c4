"""Tasks with a library that stands in for Ray; Ray itself is tried by ``make test-cluster``."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from ness_cli.console import Progress
from ness_cli.errors import SystemRefusedError
from ness_cli.settings.engines.ray import Options
from ness_cli.study.engines import ray as engine_module
from ness_cli.study.engines.base import Job
from ness_cli.study.engines.ray import Ray, work
from ness_cli.workplace import Workplace


class _FakeJob(Job):
    """A job whose command is a line of shell."""

    @property
    def argv(self):
        return ["bash", "-c", *self.command]


def _job(folder: Path, name: str, command: str = "true") -> Job:
    place = folder / name
    return _FakeJob(name, (command,), place, place.with_suffix(".log"), place.with_suffix(".exit"))


def _engine(folder: Path, **options) -> Ray:
    folder.mkdir(exist_ok=True)
    return Ray(folder, Options(**options), 2, Workplace(folder, progress=Progress()))


class _RayError(Exception):
    pass


@pytest.fixture
def library(monkeypatch):
    """A library whose tasks run at once, and whose workers may be lost."""
    ray = types.SimpleNamespace(asked=[], address=[], shut=[], lost=set(), most=0)
    ray.exceptions = types.SimpleNamespace(RayError=_RayError)

    def init(address, **options):
        ray.address.append(address)
        ray.options = options
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does: it ends at once then

    ray.init = init
    ray.shutdown = lambda: ray.shut.append(1)

    def remote(**resources):
        def task(function):
            def call(job, *rest):
                ray.asked.append((job.name, resources))
                return object(), job.name, lambda: function(job, *rest)

            return types.SimpleNamespace(remote=call)

        return task

    def get(reference):
        _, name, call = reference
        if name in ray.lost:
            raise _RayError("the worker\ndied")
        return call()

    def wait(references, timeout):
        ray.most = max(ray.most, len(references))
        return references[:1], references[1:]

    ray.remote, ray.get, ray.wait = remote, get, wait
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(engine_module, "_AGAIN_SECONDS", 0.0)
    return ray


def test_jobs_ask_for_parts_of_a_gpu_and_their_threads(tmp_path, library):
    engine = _engine(tmp_path / "out", num_gpus=0.25, jobs=2, address="auto")
    jobs = [_job(tmp_path / "out", name, f"echo {name} >&2") for name in "abc"]
    assert engine.run(jobs, lambda: None)
    wanted = {"num_cpus": 2, "num_gpus": 0.25, "max_retries": 20}
    assert library.asked == [(name, wanted) for name in "abc"]
    assert library.most == 2
    assert library.address == ["auto"]
    assert "include_dashboard" not in library.options  # of a cluster that is there
    assert library.shut == [1]
    for job in jobs:
        assert job.log.read_text() == f"{job.name}\n"
        assert job.exit_code.read_text() == "0\n"


def test_what_was_interrupted_goes_on_and_what_fails_does_not(tmp_path, library):
    folder = tmp_path / "out"
    once = f"mkdir {tmp_path}/$0 2>/dev/null && exit 75; exit 0"
    jobs = [
        _job(folder, "again", once.replace("$0", "again")),
        _job(folder, "killed", f"mkdir {tmp_path}/killed 2>/dev/null && kill -TERM $$; exit 0"),
        _job(folder, "bad", "exit 5"),
        _job(folder, "lost"),
    ]
    library.lost = {"lost"}
    assert _engine(folder).run(jobs, lambda: None)
    names = [name for name, _ in library.asked]
    assert sorted(names) == ["again", "again", "bad", "killed", "killed", "lost"]
    assert [job.exit_code.read_text() for job in jobs] == ["0\n", "0\n", "5\n", "1\n"]
    assert jobs[3].log.read_text() == "error: ray: the worker died\n"


def test_a_request_to_stop_is_still_heard_when_ray_has_set_its_own(tmp_path, library, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        assert _engine(tmp_path / "out").run([_job(tmp_path / "out", "a")], lambda: None)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert library.address == [None]
    assert library.options["include_dashboard"] is False


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://localhost:{}", "ray://[::1]:{}"])
def test_a_cluster_that_does_not_answer_is_refused_at_once(tmp_path, library, monkeypatch, address):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address.format(server.getsockname()[1])
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(SystemRefusedError, match="ray: nothing answers at") as refused:
        _engine(tmp_path / "out").run([_job(tmp_path / "out", "a")], lambda: None)
    assert address in refused.value.what
    assert library.address == []


def test_what_ray_says_of_a_cluster_that_is_not_there_is_one_line(tmp_path, library):
    def init(**_):
        raise ConnectionError("no\nray")

    library.init = init
    with pytest.raises(SystemRefusedError, match="ray: no ray"):
        _engine(tmp_path / "out", address="auto").run([_job(tmp_path / "out", "a")], lambda: None)


def test_a_stop_reaches_commands_through_the_folder_that_all_share(tmp_path, library):
    folder = tmp_path / "out"
    engine = _engine(folder)
    engine.workplace.stop.request("SIGTERM")
    assert engine.run([_job(folder, "a")], lambda: None)
    assert library.asked == []
    job = _job(folder, "b", "trap 'exit 75' TERM; echo up >&2; while true; do sleep 0.01; done")
    stop_file = folder / ".ray.stop"

    def stop():
        while not (job.log.exists() and job.log.read_text()):
            time.sleep(0.01)
        stop_file.touch()

    thread = threading.Thread(target=stop)
    thread.start()
    assert work(job, str(tmp_path), stop_file) == 75
    thread.join()
    assert job.exit_code.read_text() == "75\n"
    assert work(_job(folder, "c"), str(tmp_path), stop_file) == 75
    assert not (folder / "c.log").exists()


def test_the_dry_run_says_where_and_what(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    job = Job("a", ("run", "--out", "a b"), tmp_path, tmp_path, tmp_path)
    lines = _engine(tmp_path, jobs=3).dry_run([job]).splitlines()
    assert lines == [
        "# 1 task on a cluster started here, at most 3 at a time;"
        " each: num_cpus=2, num_gpus=0, max_retries=20",
        "ness run --out 'a b'",
    ]
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert "on ray://head:10001" in _engine(tmp_path).dry_run([job])


def test_without_the_library_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemRefusedError, match="ray is not installed"):
        _engine(tmp_path).run([_job(tmp_path, "a")], lambda: None)
