from __future__ import annotations

import pytest
import torch
from factory import (
    begin_after,
    make_method,
    make_settings,
    make_steps,
    make_train_step,
)
from torch.nn import functional

from ness_cli.errors import SettingsError

PLAIN = {"momentum": 0.0, "lr": 0.05}


def _begun(name="dfgp", tasks=1, train=None, net=None, **options):
    """A method that has learned some tasks and begun one more."""
    train = {**PLAIN, **(train or {})}
    settings = make_settings(
        method={"name": name}, train=train, net=net or {}, methods={name: options}
    )
    method = make_method(settings)
    return method, begin_after(method, tasks)


def _logits(weights, x):
    fc1, fc2, head = weights
    return torch.relu(torch.relu(x.flatten(1) @ fc1.T) @ fc2.T) @ head.T


def _authors_step(weights, memories, batch, partner, lam, options):
    """The published step in float64; returns the new weights and the proportions after theirs."""
    x, y, w = batch.x.double(), batch.y, options.mixed_loss
    lam = lam.double().clone()
    weights = [weight.clone().requires_grad_(True) for weight in weights]
    at, size = weights, len(partner)
    for is_ascent in (True, False):
        lam = lam.detach().requires_grad_(True)
        each = lam.reshape(-1, 1, 1, 1)
        mixed = (1 - each) * x[:size] + each * x[partner]
        own, other = 1 - lam.detach(), lam.detach()
        if options.labels == "swapped":
            own, other = other.mean(), own.mean()
        outputs = _logits(at, mixed)
        of_own = functional.cross_entropy(outputs, y[:size], reduction="none")
        of_other = functional.cross_entropy(outputs, y[partner], reduction="none")
        loss = functional.cross_entropy(_logits(at, x), y)
        loss = loss + w * (own * of_own + other * of_other).mean()
        *gradients, uphill = torch.autograd.grad(loss, [*at, lam])
        if is_ascent:
            lam = (lam + options.mix_rho * uphill / uphill.norm()).clip(0, 1)
            norm = torch.sqrt(sum(g.square().sum() for g in gradients))
            at = [
                (p + options.rho * g / norm).detach().requires_grad_(True)
                for p, g in zip(weights, gradients, strict=True)
            ]
    found = []
    for weight, g, m in zip(weights, gradients, memories, strict=True):
        projected = g if m is None else g - g @ m @ m.T
        found.append((weight - PLAIN["lr"] * projected).detach())
    return found, lam.detach()


@pytest.mark.parametrize(("tasks", "size"), [(0, 8), (1, 8), (1, 32)])  # rows fewer, or not
@pytest.mark.parametrize(
    "options",
    [
        {"mixed_loss": 0.5, "rho": 0.2},
        {"mixed_loss": 0.5, "labels": "swapped", "rho": 0.2, "alpha": 0.5},
        {"mixed_loss": 2.0, "mixed_fraction": 0.4, "mix_rho": 1.0},
    ],
)
def test_a_step_is_that_of_the_authors_procedure(tasks, size, options, monkeypatch):
    method, task = _begun(tasks=tasks, train={"batch_size": size}, **options)
    views, head = method.layers, method.model.head(task.number).weight
    weights = [*(view.matrix().double().clone() for view in views.values()), head.detach().double()]
    memory = method.outputs("build")["memory"]
    memories = [memory[f"{name}.M"].double() if tasks else None for name in views]
    drawn, after, draw, uphill = [], [], method._draw, method._uphill

    def draws(batch):
        mixture = draw(batch)
        drawn.append((batch, mixture.partner, mixture.proportions.clone()))
        return mixture

    def goes_uphill(step, proportions):
        after.append(uphill(step, proportions))
        return after[-1]

    monkeypatch.setattr(method, "_draw", draws)
    monkeypatch.setattr(method, "_uphill", goes_uphill)
    next(make_steps(method, task, 1))
    ((batch, partner, lam),) = drawn
    expected, moved = _authors_step(weights, [*memories, None], batch, partner, lam, method.options)
    torch.testing.assert_close(after[0].double(), moved, rtol=1e-4, atol=1e-6)
    for new, old, view in zip(expected, weights, views.values(), strict=False):
        change = view.matrix().double() - old
        torch.testing.assert_close(change, new - old, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(head.detach().double(), expected[-1], rtol=1e-4, atol=1e-6)


def test_without_ascent_and_mixing_it_is_gpm():
    models = []
    options = {"threshold": 0.9, "threshold_increase": 0.0}
    for name in ("dfgp", "gpm"):
        own = {"rho": 0.0, "mixed_loss": 0.0} if name == "dfgp" else {}
        method, task = _begun(name, **options, **own)
        for _ in make_steps(method, task, 4):
            pass
        models.append(method.model.state_dict())
    for key, value in models[0].items():
        torch.testing.assert_close(value, models[1][key], rtol=1e-4, atol=1e-6)


def test_a_step_keeps_off_the_memory_and_ends_where_it_began_uphill():
    method, task = _begun(rho=0.5, mixed_loss=1.0)
    before = {name: view.matrix().clone() for name, view in method.layers.items()}
    for _ in make_steps(method, task, 5):
        pass
    for name, view in method.layers.items():
        change = view.matrix() - before[name]
        assert change.norm() > 0
        assert (change @ method._memory[name]).norm() <= 1e-5 * change.norm()


def test_proportions_stay_between_none_and_all():
    method, task = _begun(mix_rho=100.0, mixed_loss=1.0)
    step = make_train_step(method, task.train, slice(0, 8))
    method.gradients(step)
    proportions = method._mixture.proportions
    assert (proportions.min(), proportions.max()) == (0, 1)


@pytest.mark.parametrize("images", [1, 2])
def test_one_image_is_mixed_with_itself(images):
    method, task = _begun(mixed_loss=1.0)
    method.gradients(make_train_step(method, task.train, slice(0, images)))
    assert all(torch.isfinite(view.gradient()).all() for view in method.layers.values())
    assert torch.isfinite(method._mixture.proportions).all()


@pytest.mark.parametrize(("norms", "fewest"), [(True, 2), (False, 1)])
def test_no_image_that_is_mixed_is_normalised_by_itself(norms, fewest):
    net = {"name": "mlp", "hidden": [12, 10], "batch_norm": norms}
    method, task = _begun(net=net, mixed_fraction=0.1)
    for images, mixed in ((8, fewest), (1, 1), (20, 2)):
        step = make_train_step(method, task.train, slice(0, images))
        method.gradients(step)
        assert len(method._mixture.partner) == mixed
        method.after_step(step)


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({}, 4),
        ({"mixed_loss": 0.0}, 2),
        ({"rho": 0.0}, 2),
        ({"mixed_fraction": 0.1}, 3),
        ({"rho": 0.0, "mixed_loss": 0.0}, 1),
    ],
)
def test_passes_count_plain_and_mixed_images(options, passes):
    settings = make_settings(method={"name": "dfgp"}, methods={"dfgp": options})
    assert settings.options.passes() == passes


@pytest.mark.parametrize("train", [{"sam": {"tasks": "first"}}, {"mixup": 0.2}])
def test_what_it_does_by_itself_is_refused_a_second_time(train):
    with pytest.raises(SettingsError, match=rf"train\.{next(iter(train))}.*: dfgp"):
        make_settings(method={"name": "dfgp"}, train=train)
