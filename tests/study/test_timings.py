"""Times of runs from those of their kind, against sums by hand; the plan of a study."""

from __future__ import annotations

import json

import pytest
from fake_runs import make_run, write_study
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.run_dir import RunDir
from ness_cli.settings.resolve import resolve
from ness_cli.study.timings import Timings, Work


def timed(path, settings, *, epochs: int, tasks, threads: int = 1, clock=(), seconds=0.0) -> None:
    """Make a run whose tasks took (whole training, its epochs, build, evaluate) seconds.

    They were evaluated at ``clock``, minute and second, and its command took ``seconds``.
    """
    beside = path
    run = make_run(
        path, [*settings, f"train.epochs={epochs}"], 1, rows=[[50.0] * n for n in (1, 2)]
    )
    for number, (training, in_epochs, build, evaluate) in enumerate(tasks, start=1):
        more = {"train_seconds": in_epochs, "epochs": epochs, "threads": threads, "device": "cpu"}
        for step, own in (("train", training), ("subspace", build), ("accuracy", evaluate)):
            path = run.task(number).record(step)
            record = {**json.loads(path.read_text()), "seconds": own}
            if clock:
                record["finished"] = f"2026-01-01T00:{clock[number - 1]}+00:00"
            path.write_text(json.dumps(record | (more if step == "train" else {})))
    if seconds:
        beside.with_name(f"{beside.name}.exit").write_text(f"0\n{seconds}\n")


def seconds(timings: Timings, settings, num_tasks: int, num_shared: int = 0) -> float | None:
    found = timings.estimate(
        Work(resolve("digits", settings).settings.identity(), num_tasks, num_shared)
    )
    return None if found is None else found.seconds


@pytest.fixture
def timings(tmp_path) -> Timings:
    # Five epochs: 10 s of 12 in task 1, 20 s of 21 in task 2.
    timed(tmp_path / "a", [], epochs=5, tasks=[(12, 10, 3, 1), (21, 20, 4, 2)])
    found = Timings()
    found.add([tmp_path, tmp_path / "not there"], threads=1)
    return found


def test_times_grow_with_epochs_and_repeat_for_later_tasks(timings):
    assert seconds(timings, ["train.epochs=5"], 2) == (12 + 3 + 1) + (21 + 4 + 2)
    assert seconds(timings, ["train.epochs=10"], 1) == 2 + 2 * 10 + 3 + 1
    assert seconds(timings, ["train.epochs=5"], 4) == 16 + 3 * 27


def test_a_training_that_is_shared_takes_no_time(timings):
    assert seconds(timings, ["train.epochs=5"], 2, num_shared=1) == (3 + 1) + 27


@pytest.mark.parametrize("other", ["method.name=finetune", "net.hidden=[8]", "train.batch_size=8"])
def test_what_decides_the_work_makes_another_kind(timings, other):
    assert seconds(timings, [other], 2) is None


def test_a_run_with_the_same_options_counts_more_than_one_with_others(timings, tmp_path):
    timed(tmp_path / "b", ["methods.ness.eps1=0.5"], epochs=5, tasks=[(2, 1, 1, 1)] * 2)
    timings.add([tmp_path / "b"], threads=1)
    assert seconds(timings, ["train.epochs=5", "methods.ness.eps1=0.5"], 2) == 8
    assert seconds(timings, ["train.epochs=5"], 2) == 16 + 27
    # Of neither: the mean of both.
    other = ["train.epochs=5", "methods.ness.eps1=0.7"]
    assert seconds(timings, other, 2) == pytest.approx((8 + 16 + 27) / 2)


def test_rates_are_of_the_same_kind_and_the_same_rates_count_more(timings, tmp_path):
    assert seconds(timings, ["train.epochs=5", "train.lr=0.5"], 2) == 16 + 27
    timed(tmp_path / "b", ["train.lr=0.5"], epochs=5, tasks=[(2, 1, 1, 1)] * 2)
    timings.add([tmp_path / "b"], threads=1)
    assert seconds(timings, ["train.epochs=5", "train.lr=0.5"], 2) == 8


def test_a_training_that_ended_early_will_again(tmp_path):
    timed(tmp_path / "a", [], epochs=10, tasks=[(12, 12, 3, 1)] * 2)
    record = RunDir(tmp_path / "a").task(1).record("train")
    record.write_text(json.dumps({**json.loads(record.read_text()), "epochs": 4}))
    timings = Timings()
    timings.add([tmp_path], threads=1)
    assert seconds(timings, ["train.epochs=20"], 1) == 24 + 4


def test_to_start_to_end_and_between_tasks_takes_what_it_took(tmp_path):
    # 16 s and 27 s of work; the second was through 30 s after the first: 3 s between them.
    tasks = [(12, 10, 3, 1), (21, 20, 4, 2)]
    timed(tmp_path / "a", [], epochs=5, tasks=tasks, clock=("01:00", "01:30"), seconds=50.0)
    timings = Timings(command=100.0)
    timings.add([tmp_path, tmp_path / "a"], threads=1)  # counted once
    assert seconds(timings, ["train.epochs=5"], 2) == pytest.approx(50)
    assert seconds(timings, ["train.epochs=5"], 1) == pytest.approx(16 + (50 - 43 - 3))
    assert seconds(timings, ["train.epochs=5"], 3) == pytest.approx(50 + 27 + 3)
    alone = Timings(command=100.0)
    (tmp_path / "a.exit").write_text("0\n20.0\n")  # of a run that went on
    alone.add([tmp_path], threads=1)
    assert seconds(alone, ["train.epochs=5"], 1) == 16 + 100


def test_times_with_other_threads_do_not_count(tmp_path):
    timed(tmp_path / "a", [], epochs=5, tasks=[(12, 10, 3, 1)] * 2, threads=8)
    timings = Timings()
    timings.add([tmp_path], threads=1)
    assert seconds(timings, ["train.epochs=5"], 2) is None


def test_a_plan_adds_up_what_is_left(tmp_path):
    few = ["data.num_tasks=2", "train.epochs=5"]
    rows = {"a": few, "b": [*few, "method.name=finetune"]}
    out = write_study(tmp_path, rows, seeds=[1, 2], engines={"local": {"jobs": 2}})
    tasks = [(12, 10, 3, 1)] * 2
    timed(out / "a" / "seed-1", ["data.num_tasks=2"], epochs=5, tasks=tasks, seconds=40.0)
    arguments = ["study", "plan", str(tmp_path / "study.yaml"), "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--like", str(out), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "4 runs, 8 tasks, 3 runs left" in result.stdout
    assert "time: unknown where there is no run of the same kind" in result.stdout
    options = ["--like", str(out), "--device", "cpu", "--json", "--rows", "a"]
    found = json.loads(CliRunner().invoke(app, [*arguments, *options]).stdout)
    assert [(run["name"], run["is_done"], run["seconds"]) for run in found["runs"]] == [
        ("a/seed-1", True, 40.0),
        ("a/seed-2", False, 40.0),
    ]
    assert (found["seconds"], found["at_a_time"]) == (40.0, 2)
    # 64-384-384 and a shared head of ten classes, of every task; and what NESS keeps besides.
    model = 4 * (64 * 384 + 384 * 384 + 384 * 10)
    assert all(run["bytes"] > 2 * model for run in found["runs"])


def test_studies_are_listed_with_how_far_they_are(tmp_path):
    out = write_study(tmp_path, {"a": ["data.num_tasks=1"]}, seeds=[1, 2])
    make_run(out / "a" / "seed-1", ["data.num_tasks=1"], 1, rows=[[50.0]])
    result = CliRunner().invoke(app, ["study", "ls", str(tmp_path), "--json"])
    (study,) = json.loads(result.stdout)["studies"]
    assert study["folder"] == str(out)
    assert study["counts"] == {"done": 1, "running": 0, "stopped": 0, "waiting": 1, "failed": 0}


def test_a_folder_that_is_not_there_has_no_list_of_studies(tmp_path):
    result = CliRunner().invoke(app, ["study", "ls", str(tmp_path / "gone"), "--json"])
    assert result.exit_code == 4
    assert "there is no such folder" in json.loads(result.stdout)["error"]["what"]
