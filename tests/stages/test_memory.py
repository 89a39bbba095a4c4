"""Where memory runs out decides what to do about it."""

from __future__ import annotations

import pytest

from ness_cli.engine.fit import Fit
from ness_cli.errors import SystemRefusedError
from ness_cli.methods.ness import Ness
from ness_cli.run_dir import RunDir
from ness_cli.settings.resolve import resolve
from ness_cli.stages import evaluate as evaluate_stage
from ness_cli.stages import plan as plan_stage
from ness_cli.stages import prepare as prepare_stage
from ness_cli.stages.build_subspace import build_subspace
from ness_cli.stages.context import RunContext
from ness_cli.stages.evaluate import evaluate
from ness_cli.stages.prepare import prepare
from ness_cli.stages.train_task import train_task
from ness_cli.workplace import Workplace

SMALL = ["data.num_tasks=2", "net.hidden=[4]", "train.epochs=1", "data.limit_per_class=8"]


def _exhausted(*_args, **_kwargs):
    raise MemoryError("cannot allocate 9 GiB")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("memory") / "cache", "cpu")


@pytest.fixture
def run(place, tmp_path):
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    return folder


def _remedy(action) -> str:
    with pytest.raises(SystemRefusedError, match="out of memory: cannot allocate 9 GiB") as found:
        action()
    return found.value.remedy


@pytest.mark.parametrize(
    ("module", "name", "remedy"),
    [(prepare_stage, "prepare_data", "data.size"), (plan_stage, "build_model", "smaller network")],
)
def test_preparing_speaks_of_images_and_network(place, run, monkeypatch, module, name, remedy):
    monkeypatch.setattr(module, name, _exhausted)
    found = _remedy(lambda: prepare(run, resolve("digits", SMALL), place))
    assert remedy in found
    assert "batch_size" not in found


def test_every_step_speaks_of_its_own_settings(place, run, monkeypatch):
    prepare(run, resolve("digits", SMALL), place)
    context = RunContext(run, place)
    with monkeypatch.context() as patch:
        patch.setattr(Fit, "train", _exhausted)
        assert "train.batch_size" in _remedy(lambda: train_task(context))
    train_task(context)
    with monkeypatch.context() as patch:
        patch.setattr(Ness, "consolidate", _exhausted)
        remedy = _remedy(lambda: build_subspace(context))
        assert "evaluate.batch_size" in remedy
        assert "layers" in remedy
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_stage, "task_incremental_accuracy", _exhausted)
        remedy = _remedy(lambda: evaluate(context))
        assert "evaluate.batch_size" in remedy
        assert "train.batch_size" not in remedy
