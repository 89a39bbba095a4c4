"""Inputs that no data set has, through three whole tasks: results are finite."""

from __future__ import annotations

import contextlib

import factory
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.data.batches import Images
from ness_cli.data.task_stream import Split
from ness_cli.engine.stepper import Stepper
from ness_cli.errors import NumericalError
from ness_cli.methods.task import Task

METHODS = {
    "hard": {"method": {"name": "ness"}},
    "bounded": {"method": {"name": "ness"}, "methods": {"ness": {"scaling": "bounded"}}},
    "budget": {"method": {"name": "ness"}, "methods": {"ness": {"budget": 0.1}}},
    "conceptor": {"method": {"name": "ness"}, "methods": {"ness": {"scaling": "conceptor"}}},
    "closed": {"method": {"name": "ness"}, "methods": {"ness": {"eps1": 1e-30}}},
    "open": {"method": {"name": "ness"}, "methods": {"ness": {"eps1": 1e30}}},
    **{name: {"method": {"name": name}} for name in ("gpm", "sgp", "trgp", "code-cl", "owm")},
    "adam-nscl": {"method": {"name": "adam-nscl"}, "train": {"optimizer": "adam", "lr": 1e-3}},
}
RARE_KINDS = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("constant", "rank one")]


def _images(kind: str, task: int) -> Images:
    n = 1 if kind == "single" else 12
    generator = torch.Generator().manual_seed(task)
    whole = torch.randint(0, 256, (n, *factory.SHAPE), generator=generator, dtype=torch.uint8)
    if kind == "zeros":
        whole = torch.zeros_like(whole)
    elif kind == "constant":
        whole = torch.full_like(whole, 200)
    elif kind == "rank one":
        whole = whole[:1].expand(n, -1, -1, -1).clone()
    mean, std = ([0.0], [1e-18]) if kind == "enormous" else ([0.0], [1.0])
    labels = torch.arange(n) % factory.NUM_CLASSES
    return Images(Split(whole, labels), task=task, mean=mean, std=std, device=torch.device("cpu"))


def _learn_three_tasks(own, kind: str) -> None:
    for number in (1, 2, 3):
        factory.add_task(own, number)
        images = _images(kind, number)
        task = Task(number, factory.NUM_CLASSES, images, images)
        factory.learn(own, task, min(2, len(images)), size=min(8, len(images)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["zeros", "single", *RARE_KINDS])
def test_weights_and_memory_stay_finite(kind, method):
    own = factory.make_method(factory.make_settings(**METHODS[method]))
    _learn_three_tasks(own, kind)
    tensors = {**own.model.state_dict(), **own.state_tensors()}
    assert not [name for name, each in tensors.items() if not each.isfinite().all()]


@pytest.mark.parametrize("method", METHODS)
def test_enormous_inputs_end_in_nothing_but_a_numerical_error(method):
    """The engine looks for what overflows after every step; here consolidation may be first."""
    own = factory.make_method(factory.make_settings(**METHODS[method]))
    with contextlib.suppress(NumericalError):
        _learn_three_tasks(own, "enormous")


# -- whole commands --------------------------------------------------------------------------------


def _run(out, *settings):
    return CliRunner().invoke(app, ["run", "--out", str(out), *map(str, settings)])


def test_a_rate_that_diverges_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    """What is not finite is not saved over what is; run again without it, no bit is lost."""
    settings = ["data.num_tasks=1", "data.limit_per_class=20", "train.epochs=2", "net.hidden=[8]"]
    settings += ["train.batch_size=16", "storage.progress_picture=false"]
    assert _run(tmp_path / "undisturbed", *settings).exit_code == 0

    def diverging(stepper, images, positions, progress):
        loss = step(stepper, images, positions, progress)
        if (progress.epoch, progress.step) == (1, 1):
            next(iter(stepper.parameters.values())).data.fill_(torch.inf)
        return loss

    step = Stepper.step
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", diverging)
        result = _run(out, *settings, "checkpoint.seconds=0")
    assert result.exit_code == 6
    assert "fix: lower train.lr" in result.stderr
    saved = load_file(out / "task-01" / "checkpoint.safetensors")
    assert all(each.isfinite().all() for each in saved.values())
    assert _run(out, *settings, "checkpoint.seconds=0").exit_code == 0
    model = "task-01/model.safetensors"
    assert (out / model).read_bytes() == (tmp_path / "undisturbed" / model).read_bytes()


@pytest.mark.parametrize(
    "method", ["ness", *(pytest.param(m, marks=pytest.mark.slow) for m in ("gpm", "sgp", "owm"))]
)
def test_tasks_of_one_class_with_one_image_and_nothing_to_validate_with(method, tmp_path):
    for split in ("train", "test"):
        for k, name in enumerate("ab"):
            (tmp_path / split / name).mkdir(parents=True)
            pixels = np.full((8, 8), 40 + 90 * k, np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / name / "1.png")
    result = _run(
        *(tmp_path / "run", f"data.path={tmp_path}", "data.classes_per_task=1", "data.size=8"),
        *("net.name=mlp", "net.hidden=[6]", "train.epochs=2", "train.augment=[]"),
        *(f"method.name={method}", "storage.progress_picture=false"),
    )
    assert result.exit_code == 0, result.stderr
    assert "100.0" in result.stdout


def test_what_16_bits_cannot_hold_ends_in_a_numerical_error(tmp_path):
    settings = ["data.num_tasks=1", "data.limit_per_class=8", "train.epochs=1", "net.hidden=[8]"]
    result = _run(tmp_path, *settings, "compute.precision=bf16", "train.lr=1e38")
    assert result.exit_code == 6
    assert "became NaN or infinite" in result.stderr
