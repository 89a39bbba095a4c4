"""What a task costs beside its evaluation does not grow with the tasks before it."""

from __future__ import annotations

import pytest

from ness_cli import run_state
from ness_cli.nets.heads import Heads
from ness_cli.run_dir import RunDir
from ness_cli.settings.resolve import resolve
from ness_cli.stages import retention
from ness_cli.stages.build_subspace import build_subspace
from ness_cli.stages.context import RunContext
from ness_cli.stages.evaluate import evaluate
from ness_cli.stages.prepare import prepare
from ness_cli.stages.train_task import train_task
from ness_cli.workplace import Workplace

TASKS = 4
TINY = [
    *(f"data.num_tasks={TASKS}", "data.limit_per_class=2", "data.valid_fraction=0.1"),
    *("net.hidden=[4]", "train.epochs=1"),
]


@pytest.mark.parametrize("keep", ["all", "latest"])
def test_a_step_reads_the_records_of_its_own_task_and_of_the_one_before(
    tmp_path, monkeypatch, keep
):
    run, workplace = RunDir(tmp_path / "run"), Workplace(tmp_path / "cache", "cpu")
    run.path.mkdir()
    prepare(run, resolve("digits", [*TINY, f"storage.keep={keep}"]), workplace)
    context = RunContext(run, workplace)
    context.state()  # once for a process: all that there is
    read, original = [], run_state.read_record

    def reading(run, task, step):
        read.append(task)
        return original(run, task, step)

    monkeypatch.setattr(run_state, "read_record", reading)
    for task in range(1, TASKS + 1):
        read.clear()
        for step in (train_task, build_subspace, evaluate):
            step(context, task)
        assert task in read
        assert {*read} <= {task - 1, task}
    monkeypatch.undo()
    # What it knew of its own work is what the files say.
    assert context.state().steps == run_state.read_state(run).steps


@pytest.mark.parametrize("method", ["ness", "gpm"])
def test_a_step_makes_no_heads_of_earlier_tasks_and_looks_for_no_files_of_them(
    tmp_path, monkeypatch, method
):
    run, workplace = RunDir(tmp_path / "run"), Workplace(tmp_path / "cache", "cpu")
    run.path.mkdir()
    overrides = [*TINY, "storage.keep=latest", f"method.name={method}"]
    prepare(run, resolve("digits", overrides), workplace)
    context, made, looked_at = RunContext(run, workplace), [], []
    make, names_there = Heads.make, retention._names_there
    monkeypatch.setattr(
        Heads, "make", lambda self, key, device: made.append(int(key)) or make(self, key, device)
    )
    monkeypatch.setattr(
        retention,
        "_names_there",
        lambda context, step: looked_at.append(step.task) or names_there(context, step),
    )
    for task in range(1, TASKS + 1):
        made.clear()
        looked_at.clear()
        train_task(context, task)
        build_subspace(context, task)
        assert {*made} <= {
            2,
            task,
        }  # the second stands for all after the first: what do they train?
        assert {*looked_at} <= {task - 1, task - 2}
    evaluate(context, TASKS)
    assert {*made} == {*range(1, TASKS + 1)}


def test_files_that_another_process_did_not_come_to_remove_are_removed(tmp_path):
    run, workplace = RunDir(tmp_path / "run"), Workplace(tmp_path / "cache", "cpu")
    run.path.mkdir()
    prepare(run, resolve("digits", [*TINY, "data.num_tasks=5", "storage.keep=latest"]), workplace)
    for task in (1, 2, 3):
        context = RunContext(run, workplace)
        train_task(context, task)
        build_subspace(context, task)
    kept = {path.name for path in run.task(1).path.glob("*.safetensors")}
    run.task(1).tensors("covariance").write_bytes(b"")  # as if killed before it was removed
    train_task(context, 4)
    build_subspace(context, 4)  # has looked at task 1 before
    assert run.task(1).tensors("covariance").exists()
    another = RunContext(run, workplace)
    train_task(another, 5)
    build_subspace(another, 5)
    assert {path.name for path in run.task(1).path.glob("*.safetensors")} == kept


def test_what_is_known_of_a_run_follows_a_task_that_is_made_anew(tmp_path):
    run, workplace = RunDir(tmp_path / "run"), Workplace(tmp_path / "cache", "cpu")
    run.path.mkdir()
    prepare(run, resolve("digits", TINY), workplace)
    context = RunContext(run, workplace)
    for task in (1, 2, 3):
        train_task(context, task)
        build_subspace(context, task)
    run.task(2).tensors("basis").unlink()
    context = RunContext(run, workplace)
    assert context.state().of(2, "build").status == "stale"
    build_subspace(context, 2)
    assert context.state().of(3, "build").is_done  # the same bits again
    run.task(1).record("train").unlink()
    context.record_changed(1)
    assert context.state().of(3, "build").status == "stale"
    assert context.state().steps == run_state.read_state(run).steps
