from __future__ import annotations

import math

import pytest
import torch
from factory import (
    add_task,
    make_images,
    make_method,
    make_settings,
    make_steps,
    make_task,
    make_train_step,
)
from torch.nn import functional

from ness_cli.errors import SettingsError
from ness_cli.methods.task import HEAD, Phase


def _method(train=None, net=None, shape=(1, 4, 4), compute=None, **options):
    settings = make_settings(
        method={"name": "owm"},
        train={"momentum": 0.0, "schedule": "constant", **(train or {})},
        net=net or {},
        compute=compute or {},
        methods={"owm": options},
    )
    method = make_method(settings, shape)
    add_task(method, 1)
    return method


def _published(p, rows, alpha):
    """The authors' update, one row after another."""
    for row in rows:
        k = p @ row
        p = p - torch.outer(k, k) / (alpha + row @ k)
    return p


@pytest.mark.parametrize(("weight_decay", "clip_norm"), [(0.0, None), (0.1, None), (0.1, 0.2)])
def test_its_steps_are_those_of_the_authors_procedure_in_float64(weight_decay, clip_norm):
    """Mean input, rank-1 update, G P with the new P, clipped; decay projected; so is task 1."""
    train = {"weight_decay": weight_decay, "clip_norm": clip_norm}
    method = _method(train=train, alpha=[0.5, 2.0], alpha_decay=[1.0, 0.0])
    model, ps = method.model, [torch.eye(d, dtype=torch.float64) for d in (16, 12)]
    for number in (1, 2):
        if number > 1:
            add_task(method, number)
        first, second, head = weights = [
            model.get_parameter(f"{name}.weight").detach().double().requires_grad_()
            for name in ("backbone.fc1", "backbone.fc2", f"heads.{number}")
        ]
        task = make_task(number)
        for step in range(4):
            batch = task.train.batch(torch.arange(step, step + 8))
            x = batch.x.double().flatten(1)
            hidden = (x @ first.T).relu()
            logits = (hidden @ second.T).relu() @ head.T
            loss = functional.cross_entropy(logits, batch.y)
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for i, (inputs, alpha) in enumerate(((x, 0.5 * 10 ** (-step / 4)), (hidden, 2.0))):
                    ps[i] = _published(ps[i], inputs.mean(dim=0, keepdim=True), alpha)
                pairs = zip(gradients[:2], weights[:2], ps, strict=True)
                confined = [(g + weight_decay * w) @ p for g, w, p in pairs]
                norm = torch.stack([g.norm() for g in (*confined, gradients[2])]).norm()
                scale = min(1.0, (clip_norm or math.inf) / norm)
                head -= 0.05 * (scale * gradients[2] + weight_decay * head)
                for weight, change in zip((first, second), confined, strict=True):
                    weight -= 0.05 * scale * change
        method.begin_task(task)
        for _ in make_steps(method, task, 4):
            pass
        method.end_task(task)
        for name, weight in zip(("backbone.fc1", "backbone.fc2"), weights, strict=False):
            found = model.get_parameter(f"{name}.weight").double()
            torch.testing.assert_close(found, weight, rtol=1e-4, atol=1e-6)
    left = method.outputs("train")["projector"]
    for name, p in zip(("fc1.P", "fc2.P"), ps, strict=True):
        torch.testing.assert_close(left[name], p, rtol=1e-4, atol=1e-6)


def _windows(mean, kernel, step):
    """Return the windows of a mean map, cut out one by one, ``[n, c k k]``."""
    _, height, width = mean.shape
    return torch.stack(
        [
            mean[:, i : i + kernel, j : j + kernel].flatten()
            for i in range(0, height - kernel + 1, step)
            for j in range(0, width - kernel + 1, step)
        ]
    )


@pytest.mark.parametrize("step", [1, 2])
def test_rows_of_a_convolution_are_the_windows_of_the_mean_input(step):
    shape = (1, 16, 16)
    method = _method(
        net={"name": "lenet", "adapt": ["conv*"]}, shape=shape, alpha=0.5, window_step=step
    )
    task = make_task(1, n=6, shape=shape)
    method.begin_task(task)
    train_step = make_train_step(method, task.train)
    method.gradients(train_step)
    layer = method._views["conv1"]
    raw = layer.gradient().double()
    method.edit_gradients(train_step)
    conv = layer.module
    (size, _), (pad, _) = conv.kernel_size, conv.padding
    assert conv.stride == (1, 1)
    mean = functional.pad(train_step.batch.x.double().mean(dim=0), (pad,) * 4)
    p = _published(torch.eye(layer.dim).double(), _windows(mean, size, step), 0.5)
    torch.testing.assert_close(method.state_tensors()["conv1.P"], p, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.gradient().double(), raw @ p, rtol=1e-3, atol=1e-6)


def test_alpha_falls_as_published_unless_it_is_told_how():
    assert _method()._alphas(0.5) == {"fc1": 1.0, "fc2": 1.0}
    lenet = {"name": "lenet", "heads": "shared"}
    alphas = _method(net=lenet, shape=(1, 16, 16))._alphas(0.5)
    powers = {name: round(torch.tensor(a).log10().item() / -0.5, 5) for name, a in alphas.items()}
    assert list(powers.values()) == [5, 5, 4, 2, 1]
    assert list(powers)[-1] == "heads.shared"
    own = _method(alpha=[1.0, 0.1], alpha_decay=2.0)._alphas(0.5)
    assert own == pytest.approx({"fc1": 0.1, "fc2": 0.01})


@pytest.mark.parametrize("option", ["alpha", "alpha_decay"])
def test_lists_of_another_length_are_refused(option):
    method = _method(**{option: [1.0, 1.0, 1.0]})
    with pytest.raises(SettingsError, match=rf"methods\.owm\.{option}: 3 values for 2 layers"):
        method.check_options()


def test_what_hides_inputs_or_leaves_the_subspace_is_refused():
    with pytest.raises(SettingsError, match=r"compute\.compile"):
        _method(compute={"compile": "on"}).check_options()
    with pytest.raises(SettingsError, match=r"train\.optimizer"):
        _method(train={"optimizer": "adam"})


def test_a_head_that_learns_alone_teaches_p_nothing():
    method = _method(train={"head_epochs": 1})
    method.begin_task(make_task(1))
    method.end_task(make_task(1))
    add_task(method, 2)
    task = make_task(2)
    method.begin_task(task)
    method.begin_phase(task, Phase(HEAD, 1))
    for _ in make_steps(method, task, 2):
        pass
    for p in method.state_tensors().values():
        assert torch.equal(p, torch.eye(len(p), dtype=torch.float64))


def test_a_shared_head_that_learns_alone_is_protected_like_every_layer():
    train = {"head_epochs": 1, "weight_decay": 0.1}
    method = _method(train=train, net={"heads": "shared"})
    head = method.model.get_parameter("heads.shared.weight")
    task = make_task(2)
    method.begin_task(task)
    method.begin_phase(task, Phase(HEAD, 1))
    batch, before = task.train.batch(torch.arange(8)), head.detach().double().requires_grad_()
    features = method.model.backbone(batch.x).detach().double()
    loss = functional.cross_entropy(features @ before.T, batch.y)
    (gradient,) = torch.autograd.grad(loss, before)
    for _ in make_steps(method, task, 1):
        pass
    ps = method.state_tensors()
    mean, p = features.mean(dim=0, keepdim=True), ps.pop("heads.shared.P")
    torch.testing.assert_close(p, _published(torch.eye(len(p)).double(), mean, 1.0))
    expected = before - 0.05 * (gradient + 0.1 * before) @ p
    torch.testing.assert_close(head.double(), expected, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(each, torch.eye(len(each)).double()) for each in ps.values())


def test_with_sam_p_learns_each_batch_once_at_the_weights_themselves():
    method = _method(train={"sam": {"tasks": "all", "rho": 5.0}})
    task = make_task(1)
    method.begin_task(task)
    x = make_images(1).batch(torch.arange(8)).x.double().flatten(1)
    hidden = (x @ method.model.backbone.fc1.weight.detach().double().T).relu()
    for _ in make_steps(method, task, 1):
        pass
    for name, inputs in (("fc1.P", x), ("fc2.P", hidden)):
        d = inputs.shape[1]
        p = _published(torch.eye(d).double(), inputs.mean(dim=0, keepdim=True), 1.0)
        torch.testing.assert_close(method.state_tensors()[name], p, rtol=1e-4, atol=1e-6)
