"""Inputs that no data set has, through three whole tasks: results are finite."""

from __future__ import annotations

import contextlib

import factory
import pytest
import torch

from ness_cli.data.batches import Images
from ness_cli.data.task_stream import Split
from ness_cli.errors import NumericalError
from ness_cli.methods.task import Task

METHODS = {
    "hard": {"method": {"name": "ness"}},
    "bounded": {"method": {"name": "ness"}, "methods": {"ness": {"scaling": "bounded"}}},
    "budget": {"method": {"name": "ness"}, "methods": {"ness": {"budget": 0.1}}},
    "closed": {"method": {"name": "ness"}, "methods": {"ness": {"eps1": 1e-30}}},
    "open": {"method": {"name": "ness"}, "methods": {"ness": {"eps1": 1e30}}},
    **{name: {"method": {"name": name}} for name in ("gpm", "sgp", "owm")},
    "adam-nscl": {"method": {"name": "adam-nscl"}, "train": {"optimizer": "adam", "lr": 1e-3}},
}


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
@pytest.mark.parametrize("kind", ["zeros", "constant", "single", "rank one"])
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
