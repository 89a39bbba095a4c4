"""A run folder that is deleted, or made anew, under a process that works in it."""

from __future__ import annotations

import contextlib
import json
import shutil

import pytest

from ness_cli.console import Progress
from ness_cli.errors import InputError
from ness_cli.lease import Lease
from ness_cli.process_identity import ProcessIdentity
from ness_cli.run_dir import RunDir
from ness_cli.settings.resolve import resolve
from ness_cli.stages.build_subspace import build_subspace
from ness_cli.stages.context import RunContext
from ness_cli.stages.evaluate import evaluate
from ness_cli.stages.extend import extend
from ness_cli.stages.prepare import prepare
from ness_cli.stages.run import run_steps
from ness_cli.stages.train_task import train_task
from ness_cli.workplace import Workplace

TINY = ["net.hidden=[6]", "train.epochs=2", "data.limit_per_class=5", "data.num_tasks=1"]


class _Meanwhile(Progress):
    """Does something, once, while a piece of work is going on."""

    def __init__(self, act) -> None:
        self.act = act

    @contextlib.contextmanager
    def track(self, description, total, done=0):
        def advance(done=1, info=""):
            act, self.act = self.act, lambda: None
            act()

        yield advance


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def runs(cache, tmp_path_factory):
    """Three runs: one to work in, the same prepared again, and one of another seed."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        with RunDir(folder / name).lock():
            settings = resolve("digits", [*TINY, "checkpoint.seconds=0"], seed)
            prepare(RunDir(folder / name), settings, Workplace(cache, "cpu"))
    return folder


def _files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*.*")
        if not path.name.startswith(".lock-")
    }


def _extended(context):
    extend(context.run, None, ["data.num_tasks=1"], context.workplace)


def _prepared(context):
    shutil.rmtree(context.workplace.cache)
    prepare(context.run, resolve("digits", TINY, 1), context.workplace)


STEPS = {
    "train": train_task,
    "build": build_subspace,
    "evaluate": evaluate,
    "extend": _extended,
    "prepare": _prepared,
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("now", ["gone", "again"])
def test_a_step_writes_nothing_into_another_run_than_it_opened(tmp_path, cache, runs, step, now):
    own = shutil.copytree(cache, tmp_path / "cache")
    run = RunDir(shutil.copytree(runs / "first", tmp_path / "run"))
    with run.lock():
        for each in ("train", "build") if step in ("build", "evaluate") else ():
            if each != step:
                STEPS[each](RunContext(run, Workplace(own, "cpu")))

    other = Lease(run.path / ".lock", holder=ProcessIdentity("elsewhere", "another machine", 1, ""))

    def replaced():
        shutil.rmtree(run.path)
        if now != "gone":
            shutil.copytree(runs / now, run.path)
            other.acquire()  # another process is at work in it

    context = RunContext(run, Workplace(own, "cpu", progress=_Meanwhile(replaced)))
    how = "is gone" if now == "gone" else "is another run now"
    with run.lock(), pytest.raises(InputError, match=how):
        STEPS[step](context)
    if now == "gone":
        assert not run.path.exists()
    else:
        assert _files(run.path) == _files(runs / now)
        other.check()


def test_the_next_step_notices_too(tmp_path, cache, runs):
    run = RunDir(shutil.copytree(runs / "first", tmp_path / "run"))
    context = RunContext(run, Workplace(cache, "cpu"))

    def replaced(name, outcome):
        shutil.rmtree(run.path)
        shutil.copytree(runs / "again", run.path)

    with run.lock(), pytest.raises(InputError, match="deleted or replaced") as refused:
        run_steps(context, until=None, on_step=replaced)
    assert f"ness status {run.path}" in refused.value.remedy
    assert _files(run.path) == _files(runs / "again")


@pytest.mark.parametrize("now", ["gone", "other"])
def test_a_run_is_not_made_where_its_folder_was_taken_away(tmp_path, runs, now):
    run = RunDir(tmp_path / "run")

    def replaced():
        shutil.rmtree(run.path)
        if now != "gone":
            shutil.copytree(runs / now, run.path)

    workplace = Workplace(tmp_path / "cache", "cpu", progress=_Meanwhile(replaced))
    with run.lock(), pytest.raises(InputError, match="was deleted while its images"):
        prepare(run, resolve("digits", TINY, 1), workplace)
    if now == "gone":
        assert not run.path.exists()
    else:
        assert _files(run.path) == _files(runs / now)


def test_what_is_appended_makes_no_other_run(tmp_path, cache, runs):
    run = RunDir(shutil.copytree(runs / "first", tmp_path / "run"))
    context = RunContext(run, Workplace(cache, "cpu"))
    before = json.loads(run.run.read_text())
    with run.lock():
        extend(run, None, ["data.num_tasks=1"], Workplace(cache, "cpu"))
    assert json.loads(run.run.read_text()) != before
    assert context.state().num_tasks == 2
