from __future__ import annotations

import pytest
import torch
from factory import (
    add_task,
    begin_after,
    make_method,
    make_settings,
    make_steps,
    make_task,
    make_train_step,
)
from torch.nn import functional

from ness_cli.errors import SettingsError
from ness_cli.methods import fs_dgpm
from ness_cli.processes import Processes

LR = 0.05
PLAIN = {"momentum": 0.0, "lr": LR}
SECOND = {"second_order": True}
STEEP = {"ascent_lr": 0.3, "gradient_clip": None}


def _begun(tasks=1, train=None, net=None, n=24, **options):
    """A method that has learned some tasks and begun one more."""
    settings = make_settings(
        method={"name": "fs-dgpm"},
        net=net or {},
        train={**PLAIN, **(train or {})},
        methods={"fs-dgpm": options},
    )
    method = make_method(settings)
    return method, begin_after(method, tasks, n=n)


def _loss(weights, batches):
    """Mean loss over all images; heads are the last weights, by task."""
    losses = []
    for batch in batches:
        x = batch.x.double().flatten(1)
        hidden = torch.relu(torch.relu(x @ weights["fc1"].T) @ weights["fc2"].T)
        logits = hidden @ weights[batch.task].T
        losses.append(functional.cross_entropy(logits, batch.y, reduction="none"))
    return torch.cat(losses).mean()


class _Part:
    """Some images of a batch."""

    def __init__(self, batch, where):
        self.x, self.y, self.task = batch.x[where], batch.y[where], batch.task


def _authors_step(weights, memories, z, batches, options):
    """The published step in float64; returns the gradients that are stepped, and those of z."""
    weights = {name: w.clone().requires_grad_(True) for name, w in weights.items()}
    z = {name: value.clone().requires_grad_(True) for name, value in z.items()}
    lam = {name: torch.sigmoid(10 * value) for name, value in z.items()}
    at, losses, (batch, *_) = dict(weights), [], batches
    for where in torch.arange(len(batch.y)).tensor_split(options.inner_steps):
        loss = _loss(at, [_Part(batch, where)])
        names = [name for name in at if name in ("fc1", "fc2", batch.task)]
        found = torch.autograd.grad(loss, [at[n] for n in names], create_graph=True)
        for name, g in zip(names, found, strict=True):
            g = g if options.second_order else g.detach()
            if name in memories:
                m = memories[name]
                g = g @ m @ torch.diag(lam.get(name, torch.ones(m.shape[1]).double())) @ m.T
            if options.gradient_clip:
                g = g.clamp(-options.gradient_clip, options.gradient_clip)
            at[name] = at[name] + options.ascent_lr * g
        losses.append(_loss(at, batches))
    everything = [*weights.values(), *z.values()]
    found = list(torch.autograd.grad(torch.stack(losses).mean(), everything))
    gradients = dict(zip(weights, found, strict=False))
    of_z = dict(zip(z, found[len(weights) :], strict=True))
    if options.gradient_clip:
        for own in (gradients, of_z):
            norm = torch.sqrt(sum((g.square().sum() for g in own.values()), torch.zeros(())))
            for name, g in own.items():
                own[name] = g * min(1.0, options.gradient_clip / float(norm))
    for name, m in memories.items():
        kept = lam.get(name, torch.ones(m.shape[1]).double()).detach()
        gradients[name] = gradients[name] - gradients[name] @ m @ torch.diag(kept) @ m.T
    return gradients, of_z


@pytest.mark.parametrize("tasks", [0, 2])
@pytest.mark.parametrize(
    "options",
    [
        STEEP,
        STEEP | SECOND,
        STEEP | {"soft": "fixed", "inner_steps": 3},
        STEEP | SECOND | {"gradient_clip": 0.01, "replay_batch": 3},
    ],
)
def test_a_step_is_that_of_the_authors_procedure(tasks, options):
    method, task = _begun(tasks=tasks, threshold=0.8, threshold_increase=0.0, **options)
    views, model = method.layers, method.model
    with torch.no_grad():
        for z in method._soft.values():
            z.copy_(torch.linspace(-0.2, 0.2, len(z)))  # where the sigmoid is no constant
    before = {name: view.matrix().double().clone() for name, view in views.items()}
    before |= {n: model.head(n).weight.detach().double().clone() for n in range(1, tasks + 2)}
    memories = {name: m.double() for name, m in method._protected.items()}
    old = {name: z.detach().double().clone() for name, z in method._soft.items()}
    step = make_train_step(method, task.train, slice(0, 8))
    count = method.options.replay_batch or 8
    batches = [step.batch, *method.replayed(step, count, is_mixed=False)]
    assert [len(batch) for batch in batches[1:]] == ([count] if tasks else [])
    next(make_steps(method, task, 1))
    used = {"fc1", "fc2", *(batch.task for batch in batches)}
    expected, of_z = _authors_step(
        {n: w for n, w in before.items() if n in used}, memories, old, batches, method.options
    )
    after = {name: view.matrix().double() for name, view in views.items()}
    after |= {n: model.head(n).weight.detach().double() for n in range(1, tasks + 2)}
    for name, w in before.items():
        move = -LR * expected[name] if name in expected else torch.zeros_like(w)
        torch.testing.assert_close(after[name] - w, move, rtol=2e-3, atol=2e-7)
    assert set(of_z) == (set(memories) if method.options.soft == "learned" else set())
    for name, g in of_z.items():
        moved = method._soft[name].detach().double() - old[name]
        torch.testing.assert_close(moved, -LR * g, rtol=2e-3, atol=2e-7)
        assert g.abs().max() > 0


def test_directions_are_those_of_stored_images_by_the_rule_that_reaches():
    method, _ = _begun(tasks=2, memory=20, samples=None, threshold=0.9, threshold_increase=0.05)
    rows = []
    for images in method._memory.sets(torch.device("cpu")):
        rows.append(images.batch(torch.arange(len(images))).x.double().flatten(1))
    assert sum(map(len, rows)) == 20
    u, s, _ = torch.linalg.svd(torch.cat(rows).T, full_matrices=False)
    share = torch.cumsum(s.square(), 0) / s.square().sum()
    k = int((share < 0.95).sum()) + 1
    m = method._protected["fc1"].double()
    torch.testing.assert_close(m @ m.T, u[:, :k] @ u[:, :k].T, rtol=1e-4, atol=1e-5)


def test_without_steps_uphill_it_is_replay_projected_by_fixed_weights():
    method, task = _begun(ascent_lr=0.0, soft="fixed", gradient_clip=None)
    before = {name: view.matrix().clone() for name, view in method.layers.items()}
    for _ in make_steps(method, task, 5):
        pass
    for name, view in method.layers.items():
        change = view.matrix() - before[name]
        assert change.norm() > 0
        assert (change @ method._protected[name]).norm() <= 1e-4 * change.norm()


def test_the_weights_of_directions_begin_near_one_in_every_task_and_are_learned():
    method, task = _begun(**STEEP)
    start = method._weights("fc1").clone()
    assert ((start > 0.9999) & (start < 1)).all()
    with torch.no_grad():
        method._soft["fc1"].zero_()
    for _ in make_steps(method, task, 3):
        pass
    assert not torch.equal(method._weights("fc1"), torch.full_like(start, 0.5))
    method.end_task(task)
    method.consolidate(task, lambda _: None)
    add_task(method, 3)
    method.begin_task(make_task(3))
    assert (method._weights("fc1") > 0.9999).all()


def test_the_rate_uphill_drops_with_the_learning_rate_and_survives_a_restart():
    method, task = _begun(ascent_lr=0.4)
    method.on_lr_drop(2.0)
    method.on_lr_drop(0.0)  # the end of a task is no drop
    other, _ = _begun(ascent_lr=0.4)
    other.load_state_tensors(method.state_tensors())
    assert other._ascent_lr == 0.2
    method.begin_task(task)
    assert method._ascent_lr == 0.4


@pytest.mark.parametrize(("size", "norms", "parts"), [(1, False, 1), (3, False, 2), (3, True, 1)])
def test_a_batch_is_divided_into_no_smaller_parts_than_can_be_normalised(size, norms, parts):
    method, task = _begun(net={"batch_norm": norms})
    step = make_train_step(method, task.train, slice(0, size))
    found = method._parts(step.batch)
    assert len(found) == parts
    assert sum(map(len, found)) == size


def test_a_task_of_one_image_is_learned():
    method, task = _begun(tasks=1, n=1, train={"batch_size": 1})
    method.gradients(make_train_step(method, task.train))
    assert all(torch.isfinite(view.gradient()).all() for view in method.layers.values())


@pytest.mark.parametrize(
    ("train", "key"),
    [
        ({"optimizer": "adam"}, "optimizer"),
        ({"sam": {"tasks": "all"}}, "sam.tasks"),
        ({"mixup": 0.2}, "mixup"),
    ],
)
def test_training_that_it_cannot_work_with_is_refused(train, key):
    with pytest.raises(SettingsError, match=rf"train\.{key}: "):
        make_settings(method={"name": "fs-dgpm"}, train=train)


def test_a_compiled_network_and_several_processes_are_refused(monkeypatch):
    settings = make_settings(method={"name": "fs-dgpm"}, compute={"compile": "on"})
    with pytest.raises(SettingsError, match=r"compute\.compile: fs-dgpm"):
        make_method(settings).check_options()
    method, task = _begun(tasks=0)
    monkeypatch.setattr(fs_dgpm, "current_processes", lambda: Processes(rank=0, size=2))
    with pytest.raises(SettingsError, match="does not divide"):
        method.begin_task(task)
