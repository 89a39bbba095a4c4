from __future__ import annotations

import pytest
import torch
from factory import (
    VIT,
    VIT_SHAPE,
    add_task,
    learn,
    make_method,
    make_settings,
    make_steps,
    make_task,
    make_train_step,
)

from ness_cli.engine.score import record_statistics
from ness_cli.methods.task import HEAD, Phase


def _method(name="lwf", train=None, net=None, norm=None, **options):
    plain = {"lr": 0.05, "momentum": 0.0, "schedule": "constant"}
    settings = make_settings(
        method={"name": name},
        train={**plain, **(train or {})},
        net=net or {},
        norm=norm or {},
        methods={name: options},
    )
    return make_method(settings)


def _learned(method, *task_numbers, steps=4):
    for task_number in task_numbers:
        add_task(method, task_number)
        task = learn(method, make_task(task_number), steps)
        record_statistics(method, [task.train])


def _begun(method, task_number):
    """Begin a task that has no steps yet."""
    add_task(method, task_number)
    task = make_task(task_number)
    method.begin_task(task)
    method.model.train()
    return task


def _shares(logits, temperature):
    """Return the published softened probabilities: y^(1/T), made to sum to one again."""
    powers = logits.softmax(dim=1) ** (1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("temperature", [2.0, 1.0])
def test_its_steps_are_those_of_the_published_procedure_in_float64(temperature):
    """Responses of every image are recorded before training, in float64; then the joint loss."""
    method = _method(strength=1.5, temperature=temperature)
    _learned(method, 1, 2)
    add_task(method, 3)
    model, task = method.model, make_task(3)
    names = ["backbone.fc1", "backbone.fc2", "heads.1", "heads.2", "heads.3"]
    first, second, *heads = weights = [
        model.get_parameter(f"{name}.weight").detach().double().requires_grad_() for name in names
    ]

    def answers(x):
        features = ((x.flatten(1) @ first.T).relu() @ second.T).relu()
        return [features @ head.T for head in heads]

    everything = task.train.batch(slice(0, 24))
    x, y = everything.x.double(), everything.y
    with torch.no_grad():
        recorded = [_shares(z, temperature) for z in answers(x)[:2]]
    for step in range(4):
        where = slice(step, step + 8)
        *old, new = answers(x[where])
        loss = -new.log_softmax(dim=1)[torch.arange(8), y[where]].mean()
        for target, z in zip(recorded, old, strict=True):
            loss = loss - 1.5 * (target[where] * _shares(z, temperature).log()).sum(dim=1).mean()
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 0.05 * gradient
    method.begin_task(task)
    for _ in make_steps(method, task, 4):
        pass
    for name, weight in zip(names, weights, strict=True):
        found = model.get_parameter(f"{name}.weight").double()
        torch.testing.assert_close(found, weight, rtol=1e-4, atol=1e-6, msg=name)


NETS = [
    ({}, {}),
    ({"batch_norm": True}, {"statistics": "task"}),
    ({"batch_norm": True}, {"statistics": "batch"}),
    ({"batch_norm": True}, {"statistics": "batch", "affine": "per-task"}),
    ({"batch_norm": True, "heads": "shared"}, {"statistics": "task"}),
    ({"heads": "shared"}, {}),
]


@pytest.mark.parametrize(("net", "norm"), NETS)
def test_old_answers_are_those_of_evaluation_and_start_where_they_were(net, norm):
    method = _method(net=net, norm=norm)
    _learned(method, 1, 2)
    task = _begun(method, 3)
    x = task.train.batch(slice(0, 8)).x
    assert float(method.distillation(x).detach()) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        before = {}
        for earlier in (1, 2):
            with method.task_view(earlier) as model:
                before[earlier] = model(x).double()
        method.model.backbone.fc1.weight.mul_(-4)
        expected = 0.0
        for earlier in (1, 2):
            with method.task_view(earlier) as model:
                old, new = _shares(before[earlier], 2), _shares(model(x).double(), 2)
            expected += float((old * (old / new).log()).sum(dim=1).mean())
    if net.get("heads") == "shared" and not net.get("batch_norm"):
        expected /= 2  # both tasks have one and the same answer
    assert expected > 1e-3
    assert float(method.distillation(x).detach()) == pytest.approx(expected, rel=1e-4)
    assert (method.model.task, method.model.training) == (3, True)


def test_the_model_before_has_prompts_of_its_own():
    method = make_method(make_settings(method={"name": "lwf"}, net=VIT), VIT_SHAPE)
    add_task(method, 1)
    add_task(method, 2)
    task = make_task(2, shape=VIT_SHAPE)
    method.begin_task(task)
    x = task.train.batch(slice(0, 8)).x

    def answers(model):
        with torch.no_grad():
            return model.logits_of((1,), x)[0]

    before = answers(method._before)
    with torch.no_grad():
        for tokens in method.model.backbone.prompts.tokens:
            tokens.mul_(-1)
    assert torch.equal(answers(method._before), before)
    assert not torch.equal(answers(method.model.eval()), before)
    assert float(method.distillation(x).detach()) > 0


def test_the_head_that_learns_alone_has_nothing_to_hold_on_to():
    method = _method(train={"epochs": 2, "head_epochs": 1})
    _learned(method, 1)
    task = _begun(method, 2)
    with torch.no_grad():
        method.model.backbone.fc1.weight.mul_(-4)
    step = make_train_step(method, task.train)
    full = float(method.loss(step).detach())
    method.begin_phase(task, Phase(HEAD, 1))
    alone = float(method.loss(step).detach())
    assert full == pytest.approx(
        alone + float(method.distillation(step.batch.x).detach()), rel=1e-5
    )
    assert full > alone


def test_without_strength_it_is_finetuning_and_the_first_task_always():
    for steps in ((1,), (1, 2)):
        models = []
        for method in (_method(strength=0.0), _method("finetune")):
            _learned(method, *steps)
            models.append(method.model.state_dict())
        for key, value in models[0].items():
            torch.testing.assert_close(value, models[1][key], msg=key)


def test_the_stronger_the_less_old_answers_move():
    moved = []
    for strength in (0.0, 1.0, 10.0):
        method = _method(strength=strength, train={"lr": 0.02})
        _learned(method, 1)
        task = _begun(method, 2)
        for _ in make_steps(method, task, 12):
            pass
        moved.append(float(method.distillation(task.train.batch(slice(0, 24)).x).detach()))
    assert moved[0] > moved[1] > moved[2]


def test_a_single_image_is_a_task_too():
    method = _method()
    _learned(method, 1)
    add_task(method, 2)
    learn(method, make_task(2, n=1), 1, size=1)
    assert all(torch.isfinite(p).all() for p in method.model.parameters())
