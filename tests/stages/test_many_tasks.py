"""What a task costs beside its evaluation does not grow with the tasks before it."""

from __future__ import annotations

import pytest

from ness_cli import run_state
from ness_cli.run_dir import RunDir
from ness_cli.settings.resolve import resolve
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
