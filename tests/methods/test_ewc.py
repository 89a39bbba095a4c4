from __future__ import annotations

import pytest
import torch
from factory import (
    add_task,
    learn,
    make_method,
    make_settings,
    make_steps,
    make_task,
    make_train_step,
)
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from ness_cli.engine.validation import Validation
from ness_cli.errors import SettingsError


def _method(train=None, net=None, **options):
    settings = make_settings(
        method={"name": "ewc"}, train=train or {}, net=net or {}, methods={"ewc": options}
    )
    method = make_method(settings)
    add_task(method, 1)
    return method


def _per_image_squares(method, task):
    """Return the squared gradient of every image's loss, ``[n, ...]`` float64, by parameter."""
    model = method.model.double().eval()
    model.select(task.number)
    batch = task.train.batch(slice(0, len(task.train)))
    named = {n: p.detach() for n, p in model.named_parameters()}

    def loss(parameters, x, y):
        return functional.cross_entropy(functional_call(model, parameters, (x[None],)), y[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(named, batch.x.double(), batch.y)
    return {name: g.square() for name, g in gradients.items()}


@pytest.mark.parametrize("net", [{}, {"heads": "shared"}])
def test_the_information_is_the_mean_of_squared_gradients_of_single_images(net):
    method = _method(fisher_batch=1, net=net)
    task = learn(method, make_task(1))
    expected = _per_image_squares(method, task)
    fisher = method.outputs("build")["fisher"]
    assert set(fisher) == set(method.shared())
    assert ("heads.shared.weight" in fisher) == (net.get("heads") == "shared")
    for name, found in fisher.items():
        mean = expected[name].mean(dim=0).float()
        torch.testing.assert_close(found, mean, rtol=1e-4, atol=1e-9)


def test_a_batch_counts_by_its_size_also_a_smaller_last_one():
    method = _method(fisher_batch=10)  # of 24 images: 10, 10 and 4
    task = learn(method, make_task(1))
    model = method.model.double().eval()
    sums = {name: torch.zeros_like(p) for name, p in method.shared().items()}
    for where in (slice(0, 10), slice(10, 20), slice(20, 24)):
        batch = task.train.batch(where)
        loss = functional.cross_entropy(model(batch.x.double()), batch.y)
        for name, g in zip(
            sums, torch.autograd.grad(loss, list(method.shared().values())), strict=True
        ):
            sums[name] += len(batch) / 24 * g.square()
    for name, found in method.outputs("build")["fisher"].items():
        torch.testing.assert_close(found, sums[name].float(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "keep", "add"),
    [({}, 2 / 3, 1 / 3), ({"merge": "online"}, 1, 1), ({"merge": "online", "decay": 0.9}, 0.9, 1)],
)
def test_tasks_are_merged_by_their_mean_or_online(options, keep, add):
    method = _method(**options)
    for task_number in (1, 2):
        learn(method, make_task(task_number))
        add_task(method, task_number + 1)
    before = {name: f.clone() for name, f in method.outputs("build")["fisher"].items()}
    task = make_task(3)
    method.begin_task(task)
    method.end_task(task)
    own = method._information(task, lambda _: None)
    method.consolidate(task, lambda _: None)
    for name, found in method.outputs("build")["fisher"].items():
        torch.testing.assert_close(found, keep * before[name] + add * own[name].float())


def test_the_gradient_of_the_penalty_is_lambda_f_times_the_way_from_the_anchor():
    method = _method(strength=7.0)
    learn(method, make_task(1))
    add_task(method, 2)
    method.begin_task(make_task(2))
    assert method.penalty(None).item() == 0.0
    moves = {name: torch.randn_like(p) for name, p in method.shared().items()}
    with torch.no_grad():
        for name, parameter in method.shared().items():
            parameter.add_(moves[name])
    method.penalty(None).backward()
    for name, parameter in method.shared().items():
        expected = 7.0 * method._fisher[name] * moves[name]
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-6)


def test_without_strength_it_is_finetuning():
    models = []
    for name in ("ewc", "finetune"):
        options = {"ewc": {"strength": 0.0}} if name == "ewc" else {}
        method = make_method(make_settings(method={"name": name}, methods=options))
        for task_number in (1, 2):
            add_task(method, task_number)
            learn(method, make_task(task_number))
        models.append(method.model.state_dict())
    for key, value in models[0].items():
        torch.testing.assert_close(value, models[1][key], msg=key)


def test_the_stronger_the_penalty_the_less_of_what_mattered_changes():
    weighted = []
    for strength in (0.0, 10.0, 100.0):
        method = _method(strength=strength, train={"lr": 0.01, "momentum": 0.0})
        learn(method, make_task(1), 12)
        fisher = method.outputs("build")["fisher"]
        before = {name: p.detach().clone() for name, p in method.shared().items()}
        add_task(method, 2)
        task = make_task(2)
        method.begin_task(task)
        for _ in make_steps(method, task, 12):
            pass
        weighted.append(
            sum(
                float((fisher[name] * (p.detach() - before[name]).square()).sum())
                for name, p in method.shared().items()
            )
        )
    assert weighted[0] > weighted[1] > weighted[2]


def test_validation_sees_the_penalty_and_the_first_task_has_none():
    method = _method(strength=5.0)
    task = make_task(1)
    method.begin_task(task)
    assert method.penalty(None) is None
    learn(method, make_task(1))
    add_task(method, 2)
    task = make_task(2)
    method.begin_task(task)
    with torch.no_grad():
        for parameter in method.shared().values():
            parameter.add_(0.1)
        plain = method.loss(make_train_step(method, task.valid)) - method.penalty(None)
        score = Validation(method, task, seed=1, batch_size=500).score("here")
        assert score.loss == pytest.approx(float(plain + method.penalty(None)), rel=1e-5)
        assert float(method.penalty(None)) > 0


def test_it_is_estimated_from_as_many_images_as_asked_for():
    method, done = _method(fisher_samples=7, fisher_batch=3), []
    task = make_task(1)
    assert method.consolidation_work(task) == 7
    method.consolidate(task, done.append)
    assert done == [3, 3, 1]
    assert _method(fisher_samples=1000).consolidation_work(task) == 24


def test_a_task_of_one_class_and_one_image_is_no_error():
    method = _method(fisher_batch=1)
    method.consolidate(make_task(1, n=1), lambda _: None)
    fisher = method.outputs("build")["fisher"]
    assert all(torch.isfinite(f).all() for f in fisher.values())


@pytest.mark.parametrize("key", ["fisher_batch", "fisher_samples"])
def test_single_images_that_are_normalised_by_themselves_are_refused(key):
    def check(statistics, task_number):
        settings = make_settings(
            method={"name": "ewc"},
            methods={"ewc": {key: task_number}},
            net={"batch_norm": True},
            norm={"statistics": statistics},
        )
        make_method(settings).check_options()

    check("batch", 2)
    check("task", 1)
    with pytest.raises(SettingsError, match=rf"methods\.ewc\.{key}: a batch of one"):
        check("batch", 1)
