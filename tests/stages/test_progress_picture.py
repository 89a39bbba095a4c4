"""``progress.png``: drawn as tasks are evaluated, and never in the way of a run."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
from factory import Notes
from PIL import Image

from ness_cli.errors import InputError
from ness_cli.run_dir import RunDir
from ness_cli.settings.resolve import resolve
from ness_cli.stages import progress_picture as module
from ness_cli.stages.context import RunContext
from ness_cli.stages.prepare import prepare
from ness_cli.stages.run import run_steps
from ness_cli.stages.verify import verify
from ness_cli.workplace import Workplace

TINY = ["net.hidden=[6]", "train.epochs=1", "data.limit_per_class=5", "data.num_tasks=2"]

pytestmark = pytest.mark.usefixtures("progress_pictures")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def context(cache, tmp_path):
    return _context(tmp_path / "run", cache)


def _context(path, cache, *more):
    run, workplace = RunDir(path), Workplace(cache, "cpu", progress=Notes())
    with run.lock():
        prepare(run, resolve("digits", [*TINY, *more], 1), workplace)
    workplace.progress.texts.clear()
    return RunContext(run, workplace)


def _go(context, until=None):
    run_steps(context, until=until, on_step=lambda name, outcome: None)


def test_a_run_is_drawn_and_its_files_are_what_they_were(context, tmp_path):
    _go(context)
    drawn = context.run.progress.read_bytes()
    with Image.open(context.run.progress) as image:
        assert image.format == "PNG"
        assert min(image.size) > 500
    assert verify(context).files > 0
    # It tells of the results alone: a copy elsewhere has the same.
    shutil.copytree(context.run.path, tmp_path / "copy")
    copy = RunContext(RunDir(tmp_path / "copy"), context.workplace)
    copy.run.progress.unlink()
    module.ProgressPicture(copy).after(2)
    assert copy.run.progress.read_bytes() == drawn
    assert context.workplace.progress.texts == []


def test_whether_it_is_drawn_is_no_part_of_what_a_run_is():
    settings = [
        resolve("digits", ["storage.progress_picture=" + on], 1) for on in ("true", "false")
    ]
    assert settings[0].settings.fingerprint() == settings[1].settings.fingerprint()


def test_it_is_not_drawn_where_nobody_wants_it(cache, tmp_path):
    context = _context(tmp_path / "run", cache, "storage.progress_picture=false")
    _go(context)
    assert not context.run.progress.exists()


def test_drawing_takes_a_small_share_of_the_time_and_the_last_task_is_there(context, monkeypatch):
    drawn, clock = [], iter(range(0, 10_000, 10))

    def render(picture, ending, *, dpi):
        drawn.append(picture)
        return b"picture"

    monkeypatch.setattr(module, "render", render)
    monkeypatch.setattr(module, "read_run", lambda path: None)
    monkeypatch.setattr(module, "progress", lambda run: run)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    found = module.ProgressPicture(context)
    for task in range(1, 101):
        found.after(task)
    # Every look at the clock is ten seconds later: so long a drawing takes, and 333 follow without.
    assert len(drawn) == 3
    found.finish()
    found.finish()
    assert len(drawn) == 4


def test_without_matplotlib_there_is_one_note(context, monkeypatch):
    monkeypatch.setattr(module, "is_possible", lambda: False)
    _go(context)
    (note,) = context.workplace.progress.texts
    assert "matplotlib is not installed: pip install 'ness-cli[plots]'" in note
    assert not context.run.progress.exists()


def test_what_goes_wrong_is_noted_and_the_run_goes_on(context, monkeypatch):
    def render(picture, ending, *, dpi):
        raise ValueError("no fonts")

    monkeypatch.setattr(module, "render", render)
    _go(context)
    assert context.state().next() is None
    assert "ValueError: no fonts" in context.workplace.progress.texts[0]


def test_no_picture_is_put_into_a_run_that_came_in_place_of_this_one(context):
    _go(context, until=1)
    context.run.progress.unlink()
    context.run_record["created"] = "another day"
    picture = module.ProgressPicture(context)
    picture.after(1)
    assert not context.run.progress.exists()
    assert "another run" in context.workplace.progress.texts[-1]
    with pytest.raises(InputError):
        context.state()
