from __future__ import annotations

import pytest
import torch
from factory import add_task, learn, make_method, make_settings, make_task
from torch.nn import functional


def _method(name="l2-sp", train=None, net=None, norm=None, **options):
    settings = make_settings(
        method={"name": name},
        train=train or {},
        net=net or {},
        norm=norm or {},
        methods={name: options},
    )
    method = make_method(settings)
    add_task(method, 1)
    return method


def test_its_steps_are_those_of_the_published_loss_in_float64():
    train = {"lr": 0.05, "momentum": 0.0, "epochs": 1, "schedule": "constant"}
    method = _method(train=train, strength=0.7, head_decay=0.3)
    learn(method, make_task(1))
    add_task(method, 2)
    first, second, head = (
        w.detach().double().requires_grad_()
        for w in (
            method.model.backbone.fc1.weight,
            method.model.backbone.fc2.weight,
            method.model.head(2).weight,
        )
    )
    starts = [first.detach().clone(), second.detach().clone()]
    task = make_task(2)
    for step in range(4):
        batch = task.train.batch(torch.arange(step, step + 8))
        features = (batch.x.double().flatten(1) @ first.T).relu()
        logits = (features @ second.T).relu() @ head.T
        loss = functional.cross_entropy(logits, batch.y) + 0.15 * head.square().sum()
        for weight, start in zip((first, second), starts, strict=True):
            loss = loss + 0.35 * (weight - start).square().sum()
        gradients = torch.autograd.grad(loss, [first, second, head])
        with torch.no_grad():
            for weight, gradient in zip((first, second, head), gradients, strict=True):
                weight -= 0.05 * gradient
    learn(method, make_task(2))
    expected = {"backbone.fc1": first, "backbone.fc2": second, "heads.2": head}
    for name, weight in expected.items():
        found = method.model.get_parameter(f"{name}.weight").double()
        torch.testing.assert_close(found, weight, rtol=1e-4, atol=1e-6)


def test_the_first_task_has_nowhere_to_go_back_to():
    method = _method()
    method.begin_task(make_task(1))
    assert method.penalty(None) is None


@pytest.mark.parametrize("heads", ["per-task", "shared"])
def test_every_shared_weight_is_pulled_and_the_own_head_decays(heads):
    method = _method(strength=2.0, head_decay=3.0, net={"heads": heads})
    learn(method, make_task(1))
    add_task(method, 2)
    method.begin_task(make_task(2))
    with torch.no_grad():
        for parameter in method.shared().values():
            parameter.add_(0.5)
    method.penalty(None).backward()
    assert ("heads.shared.weight" in method.shared()) == (heads == "shared")
    for parameter in method.shared().values():
        torch.testing.assert_close(parameter.grad, torch.ones_like(parameter))
    if heads == "per-task":
        head = method.model.head(2).weight
        torch.testing.assert_close(head.grad, 3.0 * head)
        assert method.model.head(1).weight.grad is None


def test_scales_of_single_tasks_are_neither_pulled_nor_decayed():
    method = _method(net={"batch_norm": True}, norm={"affine": "per-task"})
    learn(method, make_task(1))
    add_task(method, 2)
    method.begin_task(make_task(2))
    method.penalty(None).backward()
    own = method.model.own_parameters(2) - {method.model.head(2).weight}
    assert own
    assert all(parameter.grad is None for parameter in own)


def test_without_factors_it_is_finetuning():
    models = []
    for method in (_method(strength=0.0, head_decay=0.0), _method("finetune")):
        learn(method, make_task(1))
        add_task(method, 2)
        learn(method, make_task(2))
        models.append(method.model.state_dict())
    for key, value in models[0].items():
        torch.testing.assert_close(value, models[1][key], msg=key)


def test_the_stronger_the_pull_the_less_changes():
    ways = []
    for strength in (0.0, 1.0, 10.0):
        method = _method(strength=strength, train={"lr": 0.01, "momentum": 0.0})
        learn(method, make_task(1))
        before = {name: p.detach().clone() for name, p in method.shared().items()}
        add_task(method, 2)
        learn(method, make_task(2), 12)
        ways.append(sum(float((p.detach() - before[n]).norm()) for n, p in method.shared().items()))
    assert ways[0] > ways[1] > ways[2]


def test_a_single_image_is_a_task_too():
    method = _method()
    learn(method, make_task(1))
    add_task(method, 2)
    learn(method, make_task(2, n=1), 1, size=1)
    assert all(torch.isfinite(p).all() for p in method.model.parameters())
