"""Mixing in NESS: what old tasks see stays exactly known, and each task computes its own way."""

from __future__ import annotations

import math

import pytest
import torch
from factory import (
    GroupedBackbone,
    add_task,
    make_images,
    make_method,
    make_settings,
    make_task,
    make_train_step,
)
from torch.nn import functional

from ness_cli.engine.stepper import Stepper
from ness_cli.errors import SettingsError
from ness_cli.methods.ness import Ness
from ness_cli.methods.step import StepProgress
from ness_cli.methods.task import Task
from ness_cli.nets.multi_head import MultiHead
from ness_cli.subspace.layer_inputs import observed_inputs


def _method(*, net=None, train=None, grouped=False, **ness):
    settings = make_settings(
        net=net or {},
        train={"lr": 0.03, "momentum": 0.9, **(train or {})},
        methods={"ness": {"scaling": "none", "budget": 0.1, "mix": 3, **ness}},
    )
    method = make_method(settings)
    if grouped:
        model = MultiHead(GroupedBackbone(), GroupedBackbone.num_features, shared_head=False)
        method = Ness(model, settings.options, settings.train, seed=1, batch_size=16)
    return method


def _train(method, task_number, task=None):
    task = task or make_task(task_number)
    add_task(method, task_number)
    method.begin_task(task)
    stepper = Stepper(method, task)
    positions = torch.arange(min(8, len(task.train)))
    for step in range(20):
        stepper.step(task.train, positions, StepProgress(0, step, 20, 1))
    method.after_epoch(task)
    method.end_task(task)
    files = method.outputs("train")
    method.consolidate(task, lambda _: None)
    return files


def _weight(matrix, files, layer):
    """What a task computes with, by the equation, ``[out, d]`` float64."""
    w = matrix.double()
    if f"{layer}.Q" not in files.get("mixing", {}):
        return w
    q, m = (files["mixing"][f"{layer}.{letter}"].double() for letter in "QM")
    q = torch.cat([q, q.new_zeros(w.shape[1] - len(q), q.shape[1])])  # biases are not mixed
    return w + w @ q @ (m - torch.eye(len(m))) @ q.T


def _outputs(view, matrix, x):
    if view.has_bias_column:
        matrix, bias = matrix[:, :-1], matrix[:, -1]
    else:
        bias = None
    module, weight = view.module, matrix.reshape(view.weight.shape)
    if isinstance(module, torch.nn.Linear):
        return functional.linear(x, weight, bias)
    return functional.conv2d(x, weight, bias, padding=module.padding, groups=module.groups)


CASES = {
    "plain": {},
    "restricted": {"mix_by": "restricted"},
    "all-directions": {"mix": 100},
    "bias": {"net": {"biases": True, "bias": "augmented"}},
    "adam": {"train": {"optimizer": "adam", "lr": 0.05}},
    "adam-bias-bounded": {
        "train": {"optimizer": "adam", "lr": 0.05},
        "net": {"biases": True, "bias": "augmented"},
        "scaling": "bounded",
        "eps1": 0.3,
    },
    "sam-bounded": {"train": {"sam": {"tasks": "all"}}, "scaling": "bounded", "eps1": 0.3},
    "groups": {"grouped": True},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@torch.no_grad()
def test_rho_is_what_an_update_does_to_outputs_on_mixed_inputs(case):
    method = _method(**case)
    seen: list[tuple[dict, dict]] = []  # by task: the inputs of its layers, and its files
    for task_number in (1, 2, 3):
        before = {name: view.matrix().clone() for name, view in method.layers.items()}
        with torch.enable_grad():
            files = _train(method, task_number)
        for name, view in method.layers.items() if task_number > 1 else ():
            moved = then = 0.0
            for inputs, own in seen:
                old = _outputs(view, _weight(before[name], own, name), inputs[name])
                new = _outputs(view, _weight(view.matrix(), own, name), inputs[name])
                moved += float((new - old).square().sum())
                then += float(old.square().sum())
            rho = method.measured()["output_change"][name]["rho"]
            assert rho == pytest.approx(math.sqrt(moved / then), rel=1e-6)
            assert rho > 0.01
        inputs: dict[str, torch.Tensor] = {}

        def see(name, x, inputs=inputs):
            inputs[name] = torch.cat([inputs[name], x.double()]) if name in inputs else x.double()

        with observed_inputs(method.layers, see):
            method.forward_images([make_task(task_number).train], lambda _: None)
        seen.append((inputs, files))
    mixed = seen[-1][1]["mixing"]
    assert all(float((mixed[k] - torch.eye(len(mixed[k]))).norm()) > 0 for k in mixed if "M" in k)


@pytest.mark.parametrize("adam", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_budget_is_chosen_by_validation_of_what_the_task_computes_with(
    monkeypatch, adam, grouped
):
    asked = []

    def whole(losses):
        asked.append(losses(1.0))
        return 1.0

    monkeypatch.setattr("ness_cli.methods.base_limited.smallest_sufficient", whole)
    train = {"optimizer": "adam", "lr": 0.05} if adam else {}
    method = _method(budget="auto", train=train, grouped=grouped)
    _train(method, 1)
    _train(method, 2)
    valid = make_task(2).valid
    assert valid is not None
    with torch.no_grad(), method.task_view(2) as model:
        batch = valid.batch(slice(None))
        expected = functional.cross_entropy(model(batch.x), batch.y, reduction="none")
    torch.testing.assert_close(asked[0], expected, rtol=1e-4, atol=1e-4)


def test_a_linear_layer_projects_the_rows_of_its_mixed_inputs():
    method = _method(scaling="bounded", eps1=0.05, budget=None, train={"batch_size": 4})
    _train(method, 1)
    add_task(method, 2)
    task = make_task(2)
    method.begin_task(task)
    view, own = method.layers["fc1"], method._mixed["fc1"]
    with torch.no_grad():
        own.matrix.add_(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)))
    q, m = own.directions.double(), own.matrix.detach().double()
    b = torch.eye(view.dim) + q @ (m - torch.eye(3)) @ q.T
    seen = {}
    handles = [
        view.module.register_forward_hook(lambda _, x, y: y.retain_grad() or seen.update(y=y)),
        view.module.register_forward_pre_hook(lambda _, x: seen.update(x=x[0]), prepend=True),
    ]
    step = make_train_step(method, task.train, slice(0, 4))
    method.gradients(step)
    for handle in handles:
        handle.remove()
    rows = method._projectors["fc1"]((seen["x"].flatten(1).double() @ b.T).float())
    assert method._linears["fc1"].by_rows is True
    torch.testing.assert_close(view.gradient(), seen["y"].grad.T @ rows, rtol=1e-4, atol=1e-6)
    method.end_task(task)


def test_every_task_computes_with_its_own_matrices():
    method = _method()
    files = {number: _train(method, number) for number in (1, 2, 3)}
    assert files[1]["mixing"] == {}
    x = make_images(1).batch(slice(0, 8)).x
    for number, own in files.items():
        h = x.double().flatten(1)
        for name, view in method.layers.items():
            h = torch.relu(functional.linear(h, _weight(view.matrix(), own, name)))
        expected = functional.linear(h, method.model.head(number).weight.double())
        with torch.no_grad(), method.task_view(number) as model:
            torch.testing.assert_close(model(x).double(), expected, rtol=1e-5, atol=1e-5)


def test_a_matrix_starts_as_the_identity_and_mixes_nothing():
    method = _method()
    _train(method, 1)
    x = make_task(2).train.batch(slice(0, 8)).x
    add_task(method, 2)
    with torch.no_grad():
        before = method.model(x)
        method.begin_task(make_task(2))
        torch.testing.assert_close(method.model(x), before, rtol=1e-6, atol=1e-6)
    assert method._mixed.keys() == method.layers.keys()


def test_what_to_mix_is_chosen_before_a_task_begins_and_can_be_stopped():
    one, other = _method(), _method()
    for method in (one, other):
        _train(method, 1)
        assert method.preparation_work(make_task(1)) == 0
        add_task(method, 2)
    task, done = make_task(2), []
    one.prepare(task, done.append)
    assert 0 < sum(done) <= one.preparation_work(task)
    for method in (one, other):
        method.begin_task(task)
    for name, own in one._mixed.items():
        assert torch.equal(own.directions, other._mixed[name].directions)

    def stop(_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        _after_one().prepare(task, stop)


def _after_one():
    method = _method()
    _train(method, 1)
    add_task(method, 2)
    return method


def test_decay_does_not_pull_the_matrices_toward_zero():
    method = _method(train={"weight_decay": 0.1})
    _train(method, 1)
    add_task(method, 2)
    task = make_task(2)
    method.begin_task(task)
    *rest, first, second = method.parameter_groups(task)
    for own in (first, second):
        assert own.weight_decay == 0
        assert {p.shape for p in own.parameters.values()} == {(3, 3)}
        assert not any(own.parameters.keys() & group.parameters.keys() for group in rest)


def test_a_step_of_a_matrix_moves_outputs_no_more_than_one_of_the_weight():
    method = _method()
    _train(method, 1)
    with torch.no_grad():
        method.layers["fc1"].weight.mul_(50)
    add_task(method, 2)
    task = make_task(2)
    method.begin_task(task)
    *_, group, _ = method.parameter_groups(task)
    w = method.layers["fc1"].matrix().double()
    q = method._mixed["fc1"].directions.double()
    g = torch.randn(w.shape, generator=torch.Generator().manual_seed(0)).double()
    step = group.lr_factor * (w @ q).T @ g @ q
    moved = torch.linalg.vector_norm((w @ q) @ step @ q.T)
    assert 0 < moved <= torch.linalg.vector_norm(g @ q @ q.T) * (1 + 1e-6)
    assert group.lr_factor < 0.1


def test_a_task_with_one_sample_mixes_in_its_one_direction():
    method = _method()
    _train(method, 1)
    files = _train(method, 2, Task(number=2, num_classes=3, train=make_images(2, n=1)))
    assert files["mixing"]["fc1.Q"].shape[1] == 1
    for name, view in method.layers.items():
        assert torch.isfinite(view.matrix()).all(), name


def test_without_mixing_no_task_keeps_anything_of_its_own():
    method = _method(mix=0)
    _train(method, 1)
    assert "mixing" not in _train(method, 2)
    assert method.file_sizes()["mixing"] == 0
    assert not method.options.needs_task()
    assert _method().options.needs_task()


def test_mixing_and_recomputed_covariances_are_refused_together():
    with pytest.raises(SettingsError, match=r"methods\.ness\.mix"):
        make_settings(methods={"ness": {"mix": 3, "covariance": "recompute"}})
