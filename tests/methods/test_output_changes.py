"""rho from what NESS stores is rho measured on the inputs, in every layer of every network."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from factory import (
    SHAPE,
    GroupedBackbone,
    add_task,
    make_method,
    make_settings,
    make_steps,
    make_task,
)
from measured_rho import Measured, measured_rho

from ness_cli.methods.ness import Ness
from ness_cli.nets.multi_head import MultiHead
from ness_cli.settings.resolve import build
from ness_cli.subspace.layer_inputs import observed_inputs

IMAGES = (3, 16, 16)
VIT = {
    "model": "VisionTransformer",
    "arguments": {
        "patch_size": 4,
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 8,
        "mlp_dim": 12,
    },
}
NETWORKS = {
    "mlp": {"name": "mlp", "hidden": [12, 10]},
    "mlp-bias": {"name": "mlp", "hidden": [12, 10], "biases": True, "bias": "augmented"},
    "lenet": {"name": "lenet"},
    "alexnet": {"name": "alexnet", "width": 0.05},
    "resnet18": {"name": "resnet18", "width": 2},
    "vit": {"name": "torchvision", **VIT},
    "vit-bias": {"name": "torchvision", **VIT, "bias": "augmented"},
}
OPTIONS = {
    "hard": {"scaling": "hard", "eps1": 0.05},
    "bounded": {"scaling": "bounded", "eps1": 0.05},
    "none": {"scaling": "none", "budget": 0.1, "budget_over": "pool"},
}


def _matrices(method):
    return {name: view.matrix().clone() for name, view in method.layers.items()}


def _grouped(settings):
    model = MultiHead(GroupedBackbone(), GroupedBackbone.num_features, shared_head=False)
    return Ness(model, settings.options, settings.train, seed=1, batch_size=16)


def _updates(*, net=NETWORKS["mlp"], shape=SHAPE, tasks=3, grouped=False, ness=None, **sections):
    """Train some tasks and yield, per update, rho from C and rho measured, by layer."""
    train = {"epochs": 1, "batch_size": 8, "lr": 0.05, "momentum": 0.5, **sections.pop("train", {})}
    options = {"ness": ness or OPTIONS["bounded"]}
    settings = build({"net": net, "train": train, "methods": options, **sections})
    method = _grouped(settings) if grouped else make_method(settings, shape)
    inputs: dict[str, list[torch.Tensor]] = {}
    for number in range(1, tasks + 1):
        task = make_task(number, n=12, shape=shape)
        add_task(method, number)
        before = _matrices(method)
        method.begin_task(task)
        for _ in make_steps(method, task, 4):
            pass
        method.after_epoch(task)
        method.end_task(task)
        after = _matrices(method)
        if number > 1:
            found = method.output_changes(before, after)
            assert found.keys() == before.keys()
            measured = {
                name: measured_rho(view, before[name], after[name], inputs[name])
                for name, view in method.layers.items()
            }
            yield found, measured
        method.consolidate(task, lambda _: None)

        def see(name, x):
            inputs.setdefault(name, []).append(x.clone())

        with observed_inputs(method.layers, see):
            method.forward_images([task.train], lambda _: None)


def _assert_equal(found, measured: dict[str, Measured]):
    for name, own in measured.items():
        assert not found[name].is_pooled
        assert found[name].rho == pytest.approx(own.rho, rel=own.rounding, abs=0), name


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_rho_from_the_covariance_is_rho_of_the_inputs_in_every_layer(net):
    for found, measured in _updates(net=net, shape=IMAGES, tasks=2):
        _assert_equal(found, measured)
        assert max(own.rho for own in measured.values()) > 1e-3
        # What rounding may explain is no excuse: nothing cancels here.
        assert max(own.rounding for own in measured.values()) < 1e-8


CASES = {
    "hard": {"ness": OPTIONS["hard"]},
    "unfiltered": {"ness": OPTIONS["none"]},
    "adam": {"train": {"optimizer": "adam", "lr": 0.01}},
    "shared-head": {"net": {**NETWORKS["mlp"], "heads": "shared"}},
    "bf16": {"compute": {"precision": "bf16"}},
    "adam-nscl": {"method": {"name": "adam-nscl"}, "train": {"optimizer": "adam", "lr": 0.01}},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_rho_is_measured_whatever_the_options(case):
    for found, measured in _updates(**case):
        _assert_equal(found, measured)
        if "net" in case:
            assert "heads.shared" in found
        budget = case.get("ness", {}).get("budget")
        assert {own.budget for own in found.values()} == {budget}


def test_means_of_batches_measure_nothing():
    options = {"methods": {"adam-nscl": {"covariance": "batch-mean"}}}
    method = make_method(make_settings(method={"name": "adam-nscl"}, **options))
    assert method.reads("measure") == ()
    assert method.reads("build") == ("covariance",)


def test_groups_that_have_covariances_of_their_own_are_measured_exactly():
    for found, measured in _updates(grouped=True, ness=OPTIONS["none"]):
        _assert_equal(found, measured)


def test_groups_that_share_one_are_measured_as_if_all_saw_the_inputs_of_all():
    method = _grouped(make_settings())
    task = make_task(1)
    add_task(method, 1)
    method.begin_task(task)
    method.end_task(task)
    seen: dict[str, list[torch.Tensor]] = {}
    with observed_inputs(
        method.layers, lambda name, x: seen.setdefault(name, []).append(x.clone())
    ):
        method.consolidate(task, lambda _: None)
    before = _matrices(method)
    after = {name: m + 0.1 * torch.randn_like(m) for name, m in before.items()}
    found = method.output_changes(before, after)
    views = method.layers
    assert {name for name, own in found.items() if own.is_pooled} == {
        name for name, view in views.items() if view.groups > 1
    }
    name = next(name for name, own in found.items() if own.is_pooled)
    # work_per_image looks at two images before the pass.
    rows = torch.cat([views[name].rows(x.double()) for x in seen[name][1:]])
    moved, then = (
        (rows @ m.double().T).square().sum()
        for m in (after[name].double() - before[name].double(), before[name])
    )
    assert found[name].rho == pytest.approx(math.sqrt(moved / then), rel=1e-9)
    assert found[name].as_json() == {"rho": found[name].rho, "pooled": True}


def test_outputs_that_were_zero_and_change_are_no_number():
    settings = make_settings(methods={"ness": {}})
    method = make_method(settings)
    method.load_memory(
        {"covariance": {f"{n}.C": torch.eye(v.dim).double() for n, v in method.layers.items()}}
    )
    before = {name: torch.zeros_like(m) for name, m in _matrices(method).items()}
    after = deepcopy(before)
    after["fc1"][0, 0] = 1
    found = method.output_changes(before, after)
    assert found["fc1"].rho == math.inf
    assert found["fc1"].as_json() == {"rho": None}
    assert found["fc2"].rho == 0


@pytest.mark.parametrize("name", ["finetune", "gpm", "sgp", "ewc", "joint"])
def test_other_methods_have_no_measure(name):
    method = make_method(make_settings(method={"name": name}))
    assert method.reads("measure") == ()
    assert method.output_changes({}, {}) == {}
