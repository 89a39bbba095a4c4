"""The script is run by bash with commands of Slurm that note how they were called."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ness_cli.console import Progress
from ness_cli.errors import DamagedError, InputError, LockedError, SystemRefusedError
from ness_cli.settings.engines.slurm import Options
from ness_cli.stop_request import StopRequest
from ness_cli.study.engines.base import Job
from ness_cli.study.engines.slurm import Slurm
from ness_cli.study.slurm_record import SlurmRecord
from ness_cli.workplace import Workplace

COMMANDS = {
    "srun": 'shift 2; "$@"; exit $?',
    "scontrol": "",
    "scancel": "",
    "sbatch": 'echo "$((16 + $(grep -c ^sbatch "$CALLS")));cluster"',
    "squeue": 'cat "$QUEUE"',
    "sacct": 'cat "$ACCOUNTS"',
}


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Commands of Slurm that work on one file each; returns what was called."""
    programs, log = tmp_path / "programs", tmp_path / "calls"
    programs.mkdir()
    for name, body in COMMANDS.items():
        path = programs / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>{log}\n{body}\n')
        path.chmod(0o755)
    for variable in ("QUEUE", "ACCOUNTS"):
        (tmp_path / variable).write_text("")
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("CALLS", str(log))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    log.write_text("")
    return lambda: log.read_text().splitlines()


class _FakeJob(Job):
    """A job whose command is in the name of its folder."""

    @property
    def argv(self):
        return ["bash", "-c", *self.command]


def _job(folder: Path, name: str, command: str = "true") -> Job:
    place = folder / name
    return _FakeJob(name, (command,), place, place.with_suffix(".log"), place.with_suffix(".exit"))


def _engine(folder: Path, threads: int = 1, **options) -> Slurm:
    folder.mkdir(exist_ok=True)
    return Slurm(folder, Options(**options), threads, Workplace(folder, progress=Progress()))


def _run_script(text: str, index: int) -> int:
    environment = {
        **os.environ,
        "SLURM_ARRAY_TASK_ID": str(index),
        "SLURM_ARRAY_JOB_ID": "17",
    }
    return subprocess.run(["bash", "-c", text], env=environment, check=False).returncode


def test_the_script_asks_for_what_the_options_say(tmp_path):
    folder = tmp_path / "my 5% study"
    options = {"partition": "gpu", "account": "me", "time": "12:00:00", "memory": "8G", "gpus": 1}
    engine = _engine(folder, 4, jobs=3, lead_seconds=300, options=["--exclude=n7"], **options)
    script = engine.dry_run([_job(folder, f"a/seed-{n}") for n in range(9)])
    lines = [line[8:] for line in script.splitlines() if line.startswith("#SBATCH ")]
    assert lines == [
        "--job-name='ness-my 5% study'",
        "--array=0-8%3",
        "--ntasks=1",
        "--cpus-per-task=4",
        "--partition=gpu",
        "--account=me",
        "--time=12:00:00",
        "--mem=8G",
        "--gres=gpu:1",
        "--signal=USR1@300",
        "--requeue",
        "--open-mode=append",
        f"--output='{tmp_path}/my 5%% study/.slurm.%A_%a.out'",
        "--exclude=n7",
    ]
    assert not list(folder.iterdir())  # nothing is written


def test_more_runs_than_an_array_may_have_are_queued_as_several(tmp_path, calls):
    folder = tmp_path / "out"
    jobs = [_job(folder, name) for name in "abcde"]
    engine = _engine(folder, array_size=2)
    assert engine.dry_run(jobs).count("#!/bin/bash\n") == 3
    assert not engine.run(jobs, lambda: None)
    assert len([call for call in calls() if call.startswith("sbatch")]) == 3
    (tmp_path / "QUEUE").write_text("17|1|RUNNING\n18|0|PENDING\n19|0|PENDING\n19|1|PENDING\n")
    assert engine.status(jobs) == {"b": "running", "c": "queued", "e": "queued"}


@pytest.mark.parametrize(
    ("time", "is_enough"),
    [("5", 1), ("3", 0), ("3:00", 0), ("3:01", 1), ("0:03:00", 0), ("1-0", 1), ("0-0:3", 0)],
)
def test_a_time_limit_leaves_time_before_the_signal(time, is_enough):
    Options(time="0")  # no limit
    if is_enough:
        Options(time=time)
    else:
        with pytest.raises(ValueError, match="is over when a run is told to save, 120 seconds"):
            Options(time=time)


def test_every_task_of_the_array_runs_its_own_command(tmp_path, calls):
    folder = tmp_path / "it's"
    script = 'echo "chatter of $1\'s run" >&2; echo result; exit $2'
    jobs = [
        _job(folder, "a/seed-1", f"set -- a 0; {script}"),
        _job(folder, "b/seed-1", f"set -- b 3; {script}"),
    ]
    text = _engine(folder).dry_run(jobs)
    for index, code in enumerate((0, 3)):
        assert _run_script(text, index) == code
        assert _run_script(text, index) == code
        assert jobs[index].exit_code.read_text() == f"{code}\n"
        assert jobs[index].log.read_text() == f"chatter of {'ab'[index]}'s run\n" * 2
    assert not [call for call in calls() if call.startswith("scontrol")]


@pytest.mark.parametrize(
    ("command", "noted"),
    [("exit 75", 75), ("exit 7", 7), ("kill -USR1 $$", 75), ("kill -TERM $$", 75)],
)
def test_what_was_interrupted_is_queued_again_unless_the_study_was_stopped(
    tmp_path, calls, command, noted
):
    folder = tmp_path / "out"
    job, other = _job(folder, "a", command), _job(folder, "b")
    engine = _engine(folder)
    text = engine.dry_run([other, job])
    _run_script(text, 1)
    assert [call for call in calls() if call.startswith("scontrol")] == ["scontrol requeue 17_1"]
    assert job.exit_code.read_text() == f"{noted}\n"
    (folder / ".slurm.stop").touch()
    _run_script(text, 1)
    assert len([call for call in calls() if call.startswith("scontrol")]) == 1
    job.exit_code.unlink()
    _run_script(text, 1)  # one that starts while the study is being stopped
    assert not job.exit_code.exists()


@pytest.mark.parametrize(("reason", "is_queued"), [("TimeLimit", True), ("None", False)])
def test_what_slurm_ends_goes_on_where_its_time_was_over_but_not_where_it_was_cancelled(
    tmp_path, calls, reason, is_queued
):
    folder = tmp_path / "out"
    # Slurm sends SIGTERM to the script and to the command, which then saves.
    job = _job(folder, "a", "trap 'exit 75' TERM; kill -TERM $PPID $$; sleep 600")
    (tmp_path / "QUEUE").write_text(f"{reason}\n")
    text = _engine(folder).dry_run([job])
    assert _run_script(text.replace('srun --ntasks=1 --cpus-per-task="$threads" ', ""), 0) == 75
    assert job.exit_code.read_text() == "75\n"
    requeued = [call for call in calls() if call.startswith("scontrol")]
    assert requeued == ["scontrol requeue 17_0"] * is_queued


def test_what_a_signal_ended_is_noted_as_on_this_machine(tmp_path, calls):
    job = _job(tmp_path / "out", "a", "kill -KILL $$")
    assert _run_script(_engine(tmp_path / "out").dry_run([job]), 0) == 137
    assert job.exit_code.read_text() == "-9\n"
    assert not [call for call in calls() if call.startswith("scontrol")]


def test_what_is_in_the_queue_is_not_queued_twice(tmp_path, calls):
    folder = tmp_path / "out"
    jobs = [_job(folder, name) for name in ("a/seed-1", "a/seed-2", "a/seed-3")]
    engine = _engine(folder)
    assert engine.status(jobs) == {}
    assert not engine.run(jobs, lambda: None)
    assert [c for c in calls() if "squeue" not in c] == [f"sbatch --parsable {folder}/.slurm.sh"]
    assert (folder / ".slurm.sh").read_text() == engine.dry_run(jobs)
    (tmp_path / "QUEUE").write_text("99|0|RUNNING\n17|0|RUNNING\n17|2|PENDING\n")
    assert engine.status(jobs) == {"a/seed-1": "running", "a/seed-3": "queued"}
    assert not engine.run(jobs, lambda: None)
    assert (folder / ".slurm.sh").read_text() == engine.dry_run(jobs[1:2])
    # What became of it in an earlier array counts no more.
    (tmp_path / "ACCOUNTS").write_text("17_1|TIMEOUT\n")
    (tmp_path / "QUEUE").write_text("17|0|RUNNING\n17|2|PENDING\n")
    assert engine.status(jobs) == {"a/seed-1": "running", "a/seed-3": "queued"}
    (tmp_path / "QUEUE").write_text("17|0|RUNNING\n18|0|RUNNING\n17|2|PENDING\n")
    submitted = len([call for call in calls() if call.startswith("sbatch")])
    engine.run(jobs, lambda: None)
    assert len([call for call in calls() if call.startswith("sbatch")]) == submitted


def _killed_after_sbatch(engine, jobs, monkeypatch):
    """Queue jobs, and write down nothing that ``sbatch`` answers."""
    with monkeypatch.context() as patch:
        called = []
        write = SlurmRecord.write

        def write_once(record, *arguments):
            if called:
                raise KeyboardInterrupt
            called.append(write(record, *arguments))

        patch.setattr(SlurmRecord, "write", write_once)
        with pytest.raises(KeyboardInterrupt):
            engine.run(jobs, lambda: None)


def _num_submitted(calls):
    return len([call for call in calls() if call.startswith("sbatch")])


def test_an_array_whose_number_was_never_written_down_is_found_in_the_queue(
    tmp_path, calls, monkeypatch
):
    folder = tmp_path / "out"
    jobs, engine = [_job(folder, name) for name in "ab"], _engine(folder)
    _killed_after_sbatch(engine, jobs, monkeypatch)
    (tmp_path / "link").symlink_to(folder)
    others = "98|0|RUNNING|.slurm.sh\n99|N/A|RUNNING|(null)\nof two\nlines\n"
    own = f"17|0|RUNNING|{tmp_path}/link/.slurm.sh\n17|1|PENDING|{folder}/.slurm.sh\n"
    (tmp_path / "QUEUE").write_text(others + own)
    before = (folder / ".slurm.json").read_bytes()
    assert engine.status(jobs) == {"a": "running", "b": "queued"}
    assert engine.stop(jobs) == 2
    assert calls()[-1] == "scancel --signal=TERM 17"
    assert (folder / ".slurm.json").read_bytes() == before  # the study was not held
    engine.run([*jobs, _job(folder, "c")], lambda: None)
    assert _num_submitted(calls) == 2
    assert SlurmRecord(folder).arrays() == {"17": ["a", "b"], "18": ["c"]}


def test_what_was_not_queued_or_has_left_the_queue_is_queued_anew(tmp_path, calls, monkeypatch):
    folder = tmp_path / "out"
    jobs, engine = [_job(folder, name) for name in "ab"], _engine(folder)
    _killed_after_sbatch(engine, jobs, monkeypatch)
    engine.run(jobs, lambda: None)
    assert SlurmRecord(folder).arrays() == {"18": ["a", "b"]}
    (tmp_path / "programs" / "sbatch").write_text("#!/bin/bash\necho Submitted.\n")
    with pytest.raises(SystemRefusedError, match=r"answered 'Submitted\.', which begins with no"):
        engine.run(jobs, lambda: None)
    (tmp_path / "QUEUE").write_text(f"19|0|PENDING|{folder}/.slurm.sh\n")
    assert engine.status(jobs) == {"a": "queued"}


def test_nothing_is_queued_beside_jobs_of_the_study_that_no_record_knows(tmp_path, calls):
    folder = tmp_path / "my out"
    jobs, engine = [_job(folder, name) for name in "ab"], _engine(folder)
    engine.run(jobs, lambda: None)
    (folder / ".slurm.json").unlink()
    (tmp_path / "QUEUE").write_text(f"17|0|RUNNING|{folder}/.slurm.sh\n")
    assert engine.status(jobs) == {}
    (folder / ".slurm.stop").touch()
    with pytest.raises(LockedError, match=r"that \.slurm\.json does not know: 17") as refused:
        engine.run(jobs, lambda: None)
    assert (folder / ".slurm.stop").exists()  # those that were told to stop, still are
    assert "scancel 17" in refused.value.remedy
    assert _num_submitted(calls) == 1
    assert not (folder / ".slurm.json").exists()


def test_a_damaged_record_is_named_and_written_anew_where_nothing_is_queued(tmp_path, calls):
    folder = tmp_path / "out"
    jobs, engine = [_job(folder, name) for name in "ab"], _engine(folder)
    engine.run(jobs, lambda: None)
    record = folder / ".slurm.json"
    whole = record.read_bytes()
    damages = [b"", whole[:40], b"\xff\0{", b"[]", b"null", whole.replace(b'"a"', b'"c"')]
    arrays = (None, [], {"x": []}, {"17": None}, {"17": [1]}, {"17": {}})
    damages += [json.dumps({"arrays": each}).encode() for each in arrays]
    damages += [b"{}", b'{"arrays": {}, "next": 1}', b'{"schema": "ness.run/1", "arrays": {}}']
    for damage in damages:
        record.write_bytes(damage)
        for use in (engine.status, engine.stop):
            with pytest.raises(DamagedError, match=r"\.slurm\.json is damaged") as refused:
                use(jobs)
            assert refused.value.remedy == f"ness study run FILE --out {folder} writes it anew"
    (tmp_path / "QUEUE").write_text(f"17|0|RUNNING|{folder}/.slurm.sh\n")
    with pytest.raises(LockedError, match="does not know: 17"):
        engine.run(jobs, lambda: None)
    (tmp_path / "QUEUE").write_text("")
    engine.run(jobs, lambda: None)
    assert list(SlurmRecord(folder).arrays().values()) == [["a", "b"]]
    record.unlink()
    record.mkdir()
    with pytest.raises(InputError, match="no file: a folder is in its place"):
        engine.run(jobs, lambda: None)


def test_a_stop_that_is_requested_while_arrays_are_queued_leaves_the_others_out(tmp_path, calls):
    folder = tmp_path / "out"
    stop = StopRequest()
    engine = Slurm(folder, Options(array_size=1), 1, Workplace(folder, stop=stop))
    write = SlurmRecord.write
    jobs = [_job(folder, name) for name in "abc"]
    with pytest.MonkeyPatch.context() as patch:

        def write_and_ask(record, *arguments):
            write(record, *arguments)
            stop.request("SIGTERM")

        patch.setattr(SlurmRecord, "write", write_and_ask)
        engine.run(jobs, lambda: None)
    assert SlurmRecord(folder).arrays() == {"17": ["a"]}


def test_accounts_say_what_became_of_jobs_that_left_the_queue(tmp_path, calls):
    folder = tmp_path / "out"
    jobs = [_job(folder, name) for name in "abcd"]
    engine = _engine(folder)
    engine.run(jobs, lambda: None)
    (tmp_path / "ACCOUNTS").write_text(
        "17_0|CANCELLED by 0\n17_1|OUT_OF_MEMORY\n17_2|COMPLETED\n17_3|TIMEOUT\n17_[4-9]|PENDING\n"
    )
    (tmp_path / "QUEUE").write_text("17|3|PENDING\n")
    assert engine.status(jobs) == {"a": "cancelled", "b": "out_of_memory", "d": "queued"}


def test_stopping_asks_those_that_run_to_save_and_takes_the_others_out(tmp_path, calls):
    folder = tmp_path / "out"
    jobs = [_job(folder, name) for name in "ab"]
    engine = _engine(folder)
    assert engine.stop(jobs) == 0
    engine.run(jobs, lambda: None)
    (tmp_path / "QUEUE").write_text("17|0|RUNNING\n17|1|PENDING\n")
    assert engine.stop(jobs) == 2
    assert calls()[-2:] == ["scancel --state=PENDING 17", "scancel --signal=TERM 17"]
    assert (folder / ".slurm.stop").exists()
    engine.run(jobs, lambda: None)
    assert not (folder / ".slurm.stop").exists()


def test_waiting_ends_when_the_queue_is_empty(tmp_path, calls, monkeypatch):
    folder = tmp_path / "out"
    jobs = [_job(folder, name) for name in "ab"]
    looks = []

    def sleep(_seconds):
        looks.append(len(looks))
        (tmp_path / "QUEUE").write_text("17|1|RUNNING\n" * (len(looks) < 3))

    monkeypatch.setattr("ness_cli.study.engines.slurm.time.sleep", sleep)
    monkeypatch.setattr("ness_cli.study.engines.slurm.Slurm._submit", lambda _, jobs: record())

    def record():
        content = {"arrays": {"17": ["a", "b"]}}
        (folder / ".slurm.json").write_text(json.dumps(content))
        (tmp_path / "QUEUE").write_text("17|0|RUNNING\n17|1|PENDING\n")

    watched = []
    assert _engine(folder, wait=True).run(jobs, lambda: watched.append(1))
    assert len(looks) == len(watched) == 3


def test_waiting_outlives_a_queue_that_does_not_answer_but_not_a_stop(tmp_path, calls, monkeypatch):
    folder, notes, stop = tmp_path / "out", [], StopRequest()
    progress = Progress()
    progress.note = notes.append
    engine = _engine(folder, wait=True)
    engine.workplace = Workplace(folder, stop=stop, progress=progress)
    squeue, queue = tmp_path / "programs" / "squeue", tmp_path / "QUEUE"
    works, fails = squeue.read_text(), "#!/bin/bash\necho 'Socket timed out' >&2; exit 1\n"
    submit = engine._submit

    def submit_and_queue(jobs):
        submit(jobs)
        queue.write_text("17|0|RUNNING\n18|0|RUNNING\n")

    def sleep(_seconds):
        squeue.write_text(next(answers))
        if squeue.read_text() == works:
            queue.write_text("")

    monkeypatch.setattr("ness_cli.study.engines.slurm.time.sleep", sleep)
    monkeypatch.setattr(engine, "_submit", submit_and_queue)
    answers = iter([fails, fails, works])
    assert engine.run([_job(folder, "a")], lambda: None)
    assert notes.count("squeue: Socket timed out; it is asked again") == 1
    answers = iter([fails])
    with pytest.raises(SystemRefusedError, match="Socket timed out"):
        engine.run([_job(folder, "b")], lambda: stop.request("SIGTERM"))


def test_jobs_with_names_in_another_encoding_keep_nobody_from_the_queue(tmp_path, calls):
    folder = tmp_path / "out"
    jobs = [_job(folder, "a")]
    _engine(folder).run(jobs, lambda: None)
    others = b"9|N/A|RUNNING|/home/me/caf\xe9.sh\n"
    (tmp_path / "QUEUE").write_bytes(others + b"17|0|PENDING|.slurm.sh\n")
    assert _engine(folder).status(jobs) == {"a": "queued"}


def test_without_slurm_its_words_or_its_absence_are_named(tmp_path, calls, monkeypatch):
    folder = tmp_path / "out"
    (tmp_path / "programs" / "sbatch").write_text("#!/bin/bash\necho 'invalid account' >&2; exit 1")
    with pytest.raises(SystemRefusedError, match="sbatch: invalid account"):
        _engine(folder).run([_job(folder, "a")], lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemRefusedError, match="squeue is not on this machine"):
        _engine(folder).run([_job(folder, "a")], lambda: None)
    (folder / ".slurm.json").write_text('{"arrays": {"17": ["a"]}}')
    assert _engine(folder).status([_job(folder, "a")]) == {}
