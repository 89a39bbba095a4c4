"""A study is run to its end, whatever happens to single runs; the command is a fake one."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from fake_runs import make_run, write_study
from typed_commands import ness

from ness_cli.cli.run_study import remembered_plan
from ness_cli.errors import LockedError
from ness_cli.settings.study_files import read_study
from ness_cli.study.engines.base import Job
from ness_cli.study.folder import StudyFolder
from ness_cli.study.states import States

FAKE = """
import json, os, sys, time
words = sys.argv[1:]
out, seed = words[words.index("--out") + 1], int(words[words.index("--seed") + 1])
settings = dict(word.split("=", 1) for word in words if "=" in word)
if settings.get("net.hidden") == "[13]":
    sys.exit("error: as it was asked to")
print("good", file=sys.stderr)
from ness_cli.settings.resolve import resolve
from ness_cli.run_dir import RunDir
own = [word for word in words if "=" in word]
made = resolve("digits", own, seed).settings
run = RunDir(__import__("pathlib").Path(out))
os.makedirs(out, exist_ok=True)
tasks = made.data.num_tasks
last = int(words[words.index("--until") + 1]) if "--until" in words else tasks
record = {"fingerprint": "f", "identity": made.identity(), "preset": "digits", "seed": seed,
          "method": made.method.name, "num_tasks": tasks, "stream_key": "k", "notes": [],
          "origins": {}}
run.run.write_text(json.dumps(record))
for task in range(1, last + 1):
    run.task(task).path.mkdir(exist_ok=True)
    for step in ("train", "subspace", "accuracy"):
        score = [100 * made.train.lr] * task
        content = {"fingerprint": "f", "outputs": {}, "seconds": 1.0}
        content |= {"task_incremental": score, "validation": score}
        run.task(task).record(step).write_text(json.dumps(content))
"""
STUDY = {
    "base": "digits",
    "seeds": [1, 2],
    "settings": ["data.num_tasks=2", "evaluate.validation=true"],
    "rows": {"b": ["net.hidden=[8]"], "a": ["net.hidden=[9]"]},
}


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Let runs of studies be made by the fake command."""
    program = tmp_path / "fake.py"
    program.write_text(FAKE)
    monkeypatch.setattr(
        Job, "argv", property(lambda job: [sys.executable, str(program), *job.command])
    )


def write(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return path


def document(*arguments: object, code: int = 0):
    result = ness(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("fake")
def test_every_row_is_run_with_every_seed_in_the_order_of_the_file(tmp_path):
    file, out = write(tmp_path / "s.yaml"), tmp_path / "out"
    found = document("study", "run", file, "--out", out, "--jobs", 2)
    assert [(r["row"], r["seed"], r["status"]) for r in found["runs"]] == [
        ("b", 1, "done"),
        ("b", 2, "done"),
        ("a", 1, "done"),
        ("a", 2, "done"),
    ]
    file.unlink()  # the folder is enough
    assert document("study", "status", out)["runs"] == found["runs"]
    assert f"Next: ness study table {out}" in ness("study", "status", out).stderr


@pytest.mark.usefixtures("fake")
def test_a_run_that_fails_does_not_stop_the_others_and_is_listed_with_its_reason(tmp_path):
    rows = {"bad": ["net.hidden=[13]"], "good": ["net.hidden=[9]"]}
    file, out = write(tmp_path / "s.yaml", rows=rows, seeds=[1]), tmp_path / "out"
    found = document("study", "run", file, "--out", out, code=9)
    assert found["counts"] == {"done": 1, "running": 0, "stopped": 0, "waiting": 0, "failed": 1}
    assert [r["why"] for r in found["runs"]] == ["as it was asked to", None]
    assert (out / "bad" / "seed-1.exit").read_text().split()[0] == "1"
    log = (out / "bad" / "seed-1.log").read_text()
    file.unlink()
    said = ness("study", "status", out).stderr
    typed = shlex.split(said.partition("Next: ness ")[2])  # what is shown may be typed
    assert typed[:3] == ["study", "run", str(out / "study.yaml")]
    ness(*typed, "--only-failed")
    assert (out / "bad" / "seed-1.log").read_text() == 2 * log  # tried again, and nothing else was
    (out / "bad" / "seed-1.exit").write_text("75\n")  # and interrupted
    ness(*typed, "--only-failed")
    assert (out / "bad" / "seed-1.log").read_text() == 3 * log
    assert (out / "good" / "seed-1.log").read_text() == "good\n"


def test_what_an_engine_knows_of_runs_is_said_of_those_that_are_not_done(tmp_path):
    out = write_study(tmp_path, {"a": [], "b": [], "c": [], "d": []})
    make_run(out / "a" / "seed-1", [], 1, rows=[[90.0]])
    plan = remembered_plan(out)[0]
    states = States.of(plan, {"a/seed-1": "timeout", "b/seed-1": "queued"})
    assert states.summary() == "1 of 4 runs done, 2 waiting, 1 queued"
    assert states.counts["waiting"] == 3  # for programs: what the folders say
    assert states.is_under_way
    assert not States.of(plan, {"b/seed-1": "timeout"}).is_under_way
    how = {"file": "study.yaml", "engine": "slurm", "device": "cpu"}
    (out / "study.json").write_text(json.dumps(how))
    said = ness("study", "status", out).stderr
    assert f"Next: ness study run {out}/study.yaml --out {out} --on slurm --device cpu" in said


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_nothing_is_run_where_one_row_has_settings_that_cannot_be_used(tmp_path, more):
    rows = {"good": [], "bad": ["method.nam=gpm"]}
    file, out = write(tmp_path / "s.yaml", rows=rows), tmp_path / "out"
    result = ness("study", "run", file, "--out", out, *more)
    assert result.exit_code == 2
    assert "rows.bad: method.nam: unknown key" in result.stderr
    assert not out.exists()


@pytest.mark.usefixtures("fake")
def test_a_damaged_run_fails_and_keeps_no_other_from_being_run_and_tabulated(tmp_path):
    file, out = write(tmp_path / "s.yaml", seeds=[1]), tmp_path / "out"
    (out / "b" / "seed-1").mkdir(parents=True)
    (out / "b" / "seed-1" / "run.json").write_text("{}")
    again = ness("study", "run", file, "--out", out, "--rows", "a")
    assert again.exit_code == 0, again.stderr
    StudyFolder(out).remember(read_study(file), engine="local", device="auto")
    table = document("study", "table", out)
    assert [row["row"] for row in table["rows"]] == ["a"]
    (line,) = table["unfinished"]
    assert line.startswith("b/seed-1: failed: ")
    assert "run.json is damaged" in line
    assert document("study", "status", out)["counts"]["failed"] == 1
    assert document("study", "run", file, "--out", out)["counts"]["done"] == 2


@pytest.mark.usefixtures("fake")
def test_a_study_of_some_rows_is_of_these_until_others_are_asked_for(tmp_path):
    rows = {"a": ["net.hidden=[8]"], "b": ["net.hidden=[9]"], "bad": ["train.lr=-1"]}
    file, out = write(tmp_path / "s.yaml", rows=rows, seeds=[1]), tmp_path / "out"

    def known() -> list[str]:
        return [run["row"] for run in document("study", "status", out)["runs"]]

    document("study", "run", file, "--out", out, "--rows", "a")
    assert known() == ["a"]
    assert not document("study", "table", out)["unfinished"]
    document("study", "run", file, "--out", out, "--rows", "b")
    assert known() == ["a", "b"]
    assert ness("study", "run", file, "--out", out).exit_code == 2  # now the third is wanted too
    StudyFolder(out).remember(read_study(file), engine="local", device="auto")
    assert known() == ["a", "b", "bad"]
    StudyFolder(out).remember(read_study(file), ["a"], engine="local", device="auto")
    assert known() == ["a", "b", "bad"]


@pytest.mark.usefixtures("fake")
def test_what_is_done_is_not_started_again_and_new_rows_are(tmp_path):
    out = tmp_path / "out"
    document("study", "run", write(tmp_path / "s.yaml"), "--out", out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.log")}
    more = {**STUDY["rows"], "c": ["net.hidden=[10]"]}
    found = document("study", "run", write(tmp_path / "s.yaml", rows=more), "--out", out)
    assert found["counts"]["done"] == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.usefixtures("fake")
def test_a_row_with_other_settings_than_its_runs_is_refused_by_name(tmp_path):
    out = tmp_path / "out"
    document("study", "run", write(tmp_path / "s.yaml"), "--out", out)
    other = write(tmp_path / "s.yaml", rows={"b": ["net.hidden=[8]"], "a": ["net.hidden=[7]"]})
    result = ness("study", "run", other, "--out", out)
    assert result.exit_code == 4
    assert "a/seed-1: net.hidden: [9] in the run, [7] asked for" in result.stderr
    assert "b/seed-1" not in result.stderr


def test_one_process_at_a_time_runs_a_study(tmp_path):
    folder = StudyFolder(tmp_path)
    with folder.lock():
        assert folder.holder().pid == os.getpid()
        with (
            pytest.raises(LockedError, match=f"process {os.getpid()} on"),
            StudyFolder(tmp_path).lock(),
        ):
            pass
    assert folder.holder() is None


def test_what_a_killed_process_left_of_a_study_is_removed_and_runs_keep_theirs(tmp_path):
    own, of_a_run = tmp_path / ".study.yaml.abc.tmp", tmp_path / "row" / "seed-1" / ".x.abc.tmp"
    of_a_run.parent.mkdir(parents=True)
    for path in (own, of_a_run):
        path.write_text("half")
    with StudyFolder(tmp_path).lock():
        assert not own.exists()
        assert of_a_run.exists()


SLOW = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("begun", file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_a_study_that_is_stopped_goes_on_when_it_is_typed_again(tmp_path, monkeypatch, fake):
    file, out = write(tmp_path / "s.yaml", seeds=[1]), tmp_path / "out"
    fast = Job.argv
    monkeypatch.setattr(Job, "argv", [sys.executable, "-c", SLOW])
    stopped = []

    def stop() -> None:
        while not any(path.read_text() for path in out.rglob("*.log")):
            time.sleep(0.05)
        command = [sys.executable, "-m", "ness_cli", "study", "stop", str(out)]
        stopped.append(subprocess.run(command, capture_output=True, text=True))

    thread = threading.Thread(target=stop)
    thread.start()
    result = ness("study", "run", file, "--out", out, "--jobs", 1)
    thread.join()
    assert result.exit_code == 75
    assert f"ness study run {file} --out {out} --jobs 1" in result.stderr
    assert stopped[0].returncode == 0, stopped[0].stderr
    assert f"asking process {os.getpid()} on" in stopped[0].stderr
    assert (out / "b" / "seed-1.exit").read_text().split()[0] == "75"
    assert not (out / "a").exists()
    monkeypatch.setattr(Job, "argv", fast)
    assert document("study", "run", file, "--out", out)["counts"]["done"] == 2
