from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from factory import add_task, make_method, make_steps, make_task, make_train_step
from torch.nn import functional

from ness_cli.engine.score import record_statistics
from ness_cli.engine.stepper import Stepper
from ness_cli.errors import SettingsError
from ness_cli.methods.step import StepProgress
from ness_cli.settings.resolve import build

SHAPE = (1, 4, 4)


def _method(net=None, train=None, shape=SHAPE, **options):
    net = net or {}
    raw = {
        "method": {"name": "hat"},
        "methods": {"hat": options},
        "net": net if "name" in net else {"name": "mlp", "hidden": [12, 10], **net},
        "train": {"batch_size": 8, "lr": 0.05, **(train or {})},
    }
    method = make_method(build(raw), shape)
    add_task(method, 1)
    return method


def _learn(method, task, steps=4):
    method.begin_task(task)
    for _ in make_steps(method, task, steps, size=min(8, len(task.train) - steps)):
        pass
    method.end_task(task)
    record_statistics(method, [task.train])


def _after_two_tasks(method, shape=SHAPE, steps=4):
    """Two tasks learned and a third begun; embeddings drawn anew, for soft and hard gates alike."""
    generator = torch.Generator().manual_seed(5)
    for number in (1, 2):
        _learn(method, make_task(number, shape=shape), steps)
        for embedding in method._embeddings[number].values():
            embedding.copy_(torch.randn(len(embedding), generator=generator) / 100)
        add_task(method, number + 1)
    task = make_task(3, shape=shape)
    method.begin_task(task)
    return task


def _taken(method):
    """M of every layer by hand, float64."""
    first, second = method._embeddings[1], method._embeddings[2]
    return {
        name: torch.maximum(
            torch.sigmoid(400 * first[name].double()), torch.sigmoid(400 * second[name].double())
        )
        for name in first
    }


def test_steepness_rises_with_the_images_seen_in_every_epoch():
    method, num_images, batch = _method(), 70, 7
    for first_image in range(0, num_images, batch):
        progress = StepProgress(3, first_image // batch, num_images // batch, 5)
        published = 1 / 400 + (400 - 1 / 400) * first_image / num_images
        assert method.steepness(progress) == pytest.approx(published)
    assert method.steepness(StepProgress(2, 0, 10, 5)) == 1 / 400


@pytest.mark.parametrize("at", [0, 2, 7])
def test_loss_and_gradients_are_those_of_the_published_procedure(at):
    method = _method({"biases": True}, sparsity=0.5)
    task = _after_two_tasks(method)
    step = make_train_step(method, task.train)
    step = replace(step, progress=StepProgress(0, at, 8, 1))
    s = 1 / 400 + (400 - 1 / 400) * at / 8
    for embedding in method._embeddings[3].values():
        # Where float32 has digits left for both a gate and what it is short of 1.
        embedding.data.copy_(torch.linspace(-6, 6, len(embedding)) / max(s, 2))
    model = method.model.backbone
    e = {n: v.detach().double().requires_grad_() for n, v in method._embeddings[3].items()}
    weights = [p.detach().double() for p in model.parameters()]
    gates = {name: torch.sigmoid(s * value) for name, value in e.items()}
    x = step.batch.x.flatten(1).double()
    x = functional.relu(functional.linear(x, *weights[:2])) * gates["relu1"]
    x = functional.relu(functional.linear(x, *weights[2:])) * gates["relu2"]
    logits = x @ method.model.head(3).weight.detach().double().T
    taken = _taken(method)
    opened = sum((gates[n] * (1 - taken[n])).sum() for n in gates)
    left = sum((1 - taken[n]).sum() for n in gates)
    loss = functional.cross_entropy(logits, step.batch.y) + 0.5 * opened / left
    loss.backward()
    found = method.gradients(step)
    torch.testing.assert_close(found.double(), loss.detach(), rtol=1e-5, atol=1e-6)
    method.edit_gradients(step)
    for name, value in e.items():
        cosh = torch.clamp(s * value.detach(), -50, 50).cosh()
        expected = value.grad * (400 / s) * (cosh + 1) / (value.detach().cosh() + 1)
        own = method._embeddings[3][name].grad.double()
        torch.testing.assert_close(own, expected, rtol=5e-3, atol=1e-7)


def test_gates_that_are_steeper_than_float32_can_tell_leave_finite_gradients():
    method = _method()
    task = make_task(1)
    method.begin_task(task)
    step = make_train_step(method, task.train)
    step = replace(step, progress=StepProgress(0, 99, 100, 1))
    for embedding in method._embeddings[1].values():
        embedding.data.copy_(torch.linspace(-6, 6, len(embedding)))
    method.gradients(step)
    method.edit_gradients(step)
    assert all(torch.isfinite(e.grad).all() for e in method._embeddings[1].values())


def _freezing(method, name):
    """The authors' factor of a weight ``[out, d]``, from the masks after it and before it."""
    taken = _taken(method)
    nets = {
        "fc1": ("relu1", None, 1),
        "fc2": ("relu2", "relu1", 1),
        "conv1": ("relu1", None, 1),
        "conv2": ("relu2", "relu1", 5 * 5),
    }
    after, before, columns = nets[name]
    out, d = method.layers[name].out, method.layers[name].dim
    factor = torch.zeros(out, d, dtype=torch.float64)
    for i in range(out):
        for j in range(d):
            pre = 1.0 if before is None else taken[before][j // columns]
            factor[i, j] = 1 - min(taken[after][i], pre)
    return factor


def test_a_weight_moves_by_what_neither_of_its_units_has_taken():
    method = _method({"biases": True}, {"momentum": 0.0, "lr": 0.1})
    task = _after_two_tasks(method)
    stepper, step = Stepper(method, task), make_train_step(method, task.train)
    generator = torch.Generator().manual_seed(1)
    expected = {}
    for name, layer in method.layers.items():
        module = layer.module
        module.weight.grad = torch.randn(module.weight.shape, generator=generator)
        module.bias.grad = torch.randn(module.bias.shape, generator=generator)
        masked = module.weight.grad.double() * _freezing(method, name)
        expected[name, "weight"] = module.weight.detach().double() - 0.1 * masked
        free = 1 - _taken(method)[name.replace("fc", "relu")]
        expected[name, "bias"] = module.bias.detach().double() - 0.1 * free * module.bias.grad
    method.edit_gradients(step)
    method.apply(step, stepper.optimizer)
    for (name, key), value in expected.items():
        found = getattr(method.layers[name].module, key).double()
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-6)


def test_columns_of_a_convolution_and_of_a_flattened_image_belong_to_channels():
    shape = (1, 8, 8)
    method = _method({"name": "lenet"}, shape=shape)
    _after_two_tasks(method, shape, steps=1)
    free = {id(p): share for p, share in method._free}
    for name in ("conv1", "conv2"):
        found = free[id(method.layers[name].weight)].reshape(method.layers[name].out, -1)
        torch.testing.assert_close(found.double(), _freezing(method, name), rtol=0, atol=1e-5)
    taken, fc1 = _taken(method), method.layers["fc1"]
    per_image = taken["relu2"][:, None].expand(-1, 2 * 2).reshape(-1)  # 8 pixels, pooled twice
    expected = 1 - torch.minimum(taken["relu3"][:, None], per_image[None])
    torch.testing.assert_close(free[id(fc1.weight)].double(), expected, rtol=0, atol=1e-5)


NETS = [
    ({"hidden": [12, 10], "biases": True, "dropout": 0.2}, SHAPE),
    ({"hidden": [12, 10], "batch_norm": True, "heads": "shared"}, SHAPE),
    ({"name": "alexnet", "width": 0.05}, (1, 32, 32)),
    ({"name": "lenet"}, (1, 8, 8)),
    ({"name": "resnet18", "width": 3}, (1, 16, 16)),
]
TRAINING = [
    {"weight_decay": 0.1, "sam": {"tasks": "all"}},
    {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1, "clip_norm": 1.0, "mixup": 0.5},
]


@pytest.mark.parametrize("train", TRAINING, ids=["sgd", "adam"])
@pytest.mark.parametrize(("net", "shape"), NETS, ids=lambda value: str(value)[:24])
def test_hard_gates_keep_what_an_old_task_computes_to_the_bit(net, shape, train):
    method = _method(net, train, shape)
    _learn(method, make_task(1, shape=shape), steps=2)
    for units, embedding in method._embeddings[1].items():
        # Every other unit, fully open or fully closed: sigmoid(2400) is 1 in float32.
        embedding.copy_(torch.where(torch.arange(len(embedding)) % 2 == 0, 6.0, -6.0))
        assert set(method.gate(units, 1, torch.tensor(400.0)).tolist()) <= {0.0, 1.0}
    record_statistics(method, [make_task(1, shape=shape).train])
    x = make_task(1, shape=shape).train.batch(slice(0, 6)).x

    def outputs():
        with method.task_view(1) as model:
            return model(x)

    before, weights = outputs(), {n: p.clone() for n, p in method.model.named_parameters()}
    add_task(method, 2)
    _learn(method, make_task(2, shape=shape), steps=3)
    after = outputs()
    own = method.model.backbone.named_parameters(prefix="backbone")
    assert any(n.endswith("weight") and not torch.equal(weights[n], p) for n, p in own)
    assert torch.equal(before, after)


def test_what_the_head_of_all_tasks_reads_of_taken_units_rests():
    method = _method({"heads": "shared"})
    _after_two_tasks(method)
    free = {id(p): share for p, share in method._free}
    found = free[id(method.model.head(1).weight)]
    expected = (1 - _taken(method)["relu2"]).expand_as(found)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_heads_of_tasks_are_not_masked_and_the_first_task_is_free():
    method = _method()
    method.begin_task(make_task(1))
    assert method._free == []
    gates = [method.gate(n, 1, torch.tensor(1 / 400)).mean() for n in method._units]
    method._steepness.fill_(1 / 400)
    progress = StepProgress(0, 0, 1, 1)
    mean = sum(g * u.count for g, u in zip(gates, method._units.values(), strict=True)) / 22
    torch.testing.assert_close(method.penalty(progress), 0.75 * mean)


def test_where_every_unit_is_taken_nothing_is_asked_for_sparsity():
    method = _method()
    _learn(method, make_task(1))
    for embedding in method._embeddings[1].values():
        embedding.fill_(6.0)
    add_task(method, 2)
    method.begin_task(make_task(2))
    assert method.penalty(None).item() == 0
    before = {n: p.detach().clone() for n, p in method.model.backbone.named_parameters()}
    for _ in make_steps(method, make_task(2), 3):
        pass
    for name, parameter in method.model.backbone.named_parameters():
        assert torch.equal(parameter, before[name])


def test_embeddings_stay_within_their_limit_and_do_not_decay():
    method = _method(train={"lr": 1e4, "weight_decay": 0.5, "momentum": 0.0}, embedding_limit=2.0)
    task = make_task(1)
    method.begin_task(task)
    groups = Stepper(method, task).optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert len(groups[1]["params"]) == 2
    for embedding in method._embeddings[1].values():
        embedding.data.fill_(7.0)
    method.after_step(make_train_step(method, task.train))
    for embedding in method._embeddings[1].values():
        assert (embedding == 2).all()


def test_heads_learn_alone_first_without_gates():
    method = _method(train={"head_epochs": 1})
    _learn(method, make_task(1))
    add_task(method, 2)
    task = make_task(2)
    method.begin_task(task)
    first, second = method.phases(task)
    method.begin_phase(task, first)
    assert list(Stepper(method, task).parameters) == ["heads.2.weight"]
    method.begin_phase(task, second)
    assert {"gates.relu1", "gates.relu2"} < set(Stepper(method, task).parameters)


def test_a_task_of_one_image_and_one_class_is_no_error():
    method = _method()
    _learn(method, make_task(1, n=1), steps=0)
    add_task(method, 2)
    task = make_task(2, n=2)
    method.begin_task(task)
    for _ in make_steps(method, task, 1, size=1):
        pass
    assert all(torch.isfinite(p).all() for p in method.trainable().values())


def test_units_taken_are_told_of_and_never_given_back():
    method = _method()
    task = _after_two_tasks(method)
    method.end_task(task)
    found, taken = method.measured()["units_taken"], _taken(method)
    for name, percent in found.items():
        assert 100 * float(taken[name].mean()) - 1e-3 <= percent <= 100
        own = torch.sigmoid(400 * method._embeddings[3][name].double())
        expected = 100 * float(torch.maximum(taken[name], own).mean())
        assert math.isclose(percent, expected, rel_tol=1e-4)


def test_a_network_that_does_not_say_what_its_units_are_is_refused_by_name():
    method = _method()
    method.check_options()
    net = {"name": "torchvision", "model": "mobilenet_v3_small"}
    other = _method(net, shape=(3, 32, 32))
    with pytest.raises(SettingsError, match=r"hat: torchvision does not say which units"):
        other.check_options()
