"""Commands in processes: slots, stops, runs in use, and what becomes of them with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ness_cli.settings.engines.local import Options
from ness_cli.stop_request import StopRequest
from ness_cli.study import processes
from ness_cli.study.engines.base import Job
from ness_cli.study.engines.local import Local, visible_gpus
from ness_cli.study.folder import StudyFolder
from ness_cli.study.processes import Processes
from ness_cli.workplace import Workplace

SLOW = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("begun", file=sys.stderr, flush=True)
time.sleep(60)
"""


def job(folder: Path, name: str, program: str) -> Job:
    """Return a job whose command is a piece of Python."""
    own = type("Python", (Job,), {"argv": property(lambda job: [sys.executable, *job.command])})
    paths = (folder / name, folder / f"{name}.log", folder / f"{name}.exit")
    return own(name, ("-c", program), *paths)


def wait_for(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_every_exit_code_is_kept_and_none_keeps_another_from_running(tmp_path):
    jobs = [job(tmp_path, str(code), f"import sys; sys.exit({code})") for code in (0, 6, 75)]
    ended = []
    Processes([{}], StopRequest(), on_end=lambda job, code: ended.append((job.name, code))).run(
        jobs
    )
    assert ended == [("0", 0), ("6", 6), ("75", 75)]
    written = [each.exit_code.read_text().split() for each in jobs]
    assert [int(code) for code, _ in written] == [0, 6, 75]
    assert all(0 < float(seconds) < 60 for _, seconds in written)


def test_a_job_is_what_is_typed_after_ness(tmp_path):
    paths = (tmp_path / "run", tmp_path / "log", tmp_path / "exit")
    Processes([{}], StopRequest()).run([Job("one", ("report", str(tmp_path / "run")), *paths)])
    assert (tmp_path / "exit").read_text().split()[0] == "4"
    assert "error: " in (tmp_path / "log").read_text()


def test_as_many_run_at_a_time_as_there_are_slots_each_with_its_environment(tmp_path):
    program = "import os, sys, time; print(os.environ['SLOT'], file=sys.stderr); time.sleep(0.5)"
    jobs = [job(tmp_path, str(n), program) for n in range(4)]
    most = 0

    def watch() -> None:
        nonlocal most
        most = max(most, len(running._running))

    running = Processes([{"SLOT": "a"}, {"SLOT": "b"}], StopRequest(), watch)
    running.run(jobs)
    assert most <= 2
    assert {each.log.read_text().strip() for each in jobs} == {"a", "b"}


def test_a_run_that_another_process_works_on_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_AGAIN_SECONDS", 0.2)
    mark = tmp_path / "mark"
    program = (
        f"import pathlib, sys; mark = pathlib.Path({str(mark)!r})\n"
        "if not mark.exists(): mark.touch(); sys.exit(7)"
    )
    one = job(tmp_path, "one", program)
    Processes([{}], StopRequest()).run([one])
    assert one.exit_code.read_text().split()[0] == "0"


def test_a_stop_is_passed_on_once_and_starts_nothing_more(tmp_path):
    stop = StopRequest()
    jobs = [job(tmp_path, name, SLOW) for name in ("first", "second")]
    running = Processes([{}], stop, lambda: stop.request("SIGTERM") if begun(jobs[0]) else None)
    running.run(jobs)
    assert jobs[0].exit_code.read_text().split()[0] == "75"
    assert not jobs[1].log.exists()


def begun(one: Job) -> bool:
    return one.log.exists() and "begun" in one.log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="no signal at the end of a parent")
def test_a_process_is_asked_to_stop_when_its_parent_is_killed(tmp_path):
    own = Path(__file__).parent
    parent = f"""
import sys
sys.path[:0] = [{str(own)!r}]
from pathlib import Path
from test_processes import SLOW, job
from ness_cli.stop_request import StopRequest
from ness_cli.study.processes import Processes
folder = Path({str(tmp_path)!r})
own = repr(str(folder / "pid"))
program = "import os; open(" + own + ", 'w').write(str(os.getpid()))" + SLOW
Processes([{{}}], StopRequest()).run([job(folder, "one", program)])
"""
    process = subprocess.Popen([sys.executable, "-c", parent])
    log = tmp_path / "one.log"
    wait_for(lambda: log.exists() and "begun" in log.read_text())
    child = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists())
    assert not (tmp_path / "one.exit").exists()  # nobody was there to write it
    progress = StudyFolder(tmp_path).progress("one")
    assert progress.status == "waiting"


def test_what_killed_a_run_is_named(tmp_path):
    (tmp_path / "one.exit").write_text(f"{-signal.SIGKILL}\n")
    (tmp_path / "one.log").write_text("task 1/3 trained\n")
    why = StudyFolder(tmp_path).progress("one").why
    assert why == "killed by SIGKILL; before: task 1/3 trained"


# -- slots ---------------------------------------------------------------------------------------


def slots(device: str = "auto", threads: int = 1, **options: object):
    return Local(Path(), Options(**options), threads, Workplace(Path(), device)).slots()


def test_runs_share_the_gpus_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(per_gpu=2)] == ["2", "5", "2", "5"]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(gpus=[5], per_gpu=3)] == ["5"] * 3
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(jobs=3)] == ["2", "5", "2"]
    assert not any(slots("cpu"))
    assert not any(slots("cuda:1"))  # the GPU that was named, seen by its number


def test_without_gpus_the_cores_are_divided_by_the_threads(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    assert visible_gpus() == []
    assert [len(slots(threads=n)) for n in (1, 3, 16)] == [8, 2, 1]
