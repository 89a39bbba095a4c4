from __future__ import annotations

import math

import pytest
import torch
from factory import (
    NUM_CLASSES,
    add_task,
    make_method,
    make_settings,
    make_steps,
    make_task,
    make_train_step,
)
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from ness_cli.data.batches import Images
from ness_cli.data.task_stream import Split
from ness_cli.errors import NumericalError
from ness_cli.methods.task import Task
from ness_cli.optim.make import make_optimizer
from ness_cli.settings.sections import TrainSettings

TRAIN = {"optimizer": "adamw", "lr": 0.02, "head_epochs": 1, "clip_norm": 1.0}


def _method(train=None, net=None, **options):
    settings = make_settings(
        method={"name": "eblora"},
        train=TRAIN | (train or {}),
        net=net or {},
        methods={"eblora": {"rank": 3, "energy": 0.8} | options},
    )
    method = make_method(settings)
    add_task(method, 1)
    return method


def _begin(method, task):
    """Begin a task, with two steps of its head alone."""
    method.begin_task(task)
    for phase in method.phases(task):
        method.begin_phase(task, phase)
        if phase.name == "train":
            return
        for _ in make_steps(method, task, 2, size=3):
            pass


def _learned(method, number, steps=6):
    if number > 1:
        add_task(method, number)
    task = make_task(number)
    _begin(method, task)
    for _ in make_steps(method, task, steps):
        pass
    method.end_task(task)
    return task


def _second_task_begun(method, **task):
    """Learn and consolidate a task and begin the next, factors attached."""
    method.consolidate(_learned(method, 1), lambda _: None)
    add_task(method, 2)
    found = make_task(2, **task)
    _begin(method, found)
    return found


def _reference_steps(y, closed, gradients, *, lr, width, is_published):
    """Riemannian AdamW as section 6.3 (c) of the specification lists it, without decay."""
    first, second = torch.zeros_like(y), torch.zeros_like(y)
    rows, rank = y.shape
    for count, g in enumerate(gradients, start=1):
        g = g - closed @ (closed.T @ g)
        g = g - y @ g.T @ y
        first = 0.9 * first + 0.1 * g
        second = 0.999 * second + 0.001 * g**2
        change = first / (1 - 0.9**count) / ((second / (1 - 0.999**count)).sqrt() + 1e-8)
        change = -lr * change * math.sqrt(width / (rank if is_published else rows))
        change = change - closed @ (closed.T @ change)
        if is_published:
            change = change - y @ change.T @ y
        else:
            change = change - y @ (y.T @ change + change.T @ y) / 2
        moved = y + change
        moved = moved - closed @ (closed.T @ moved)
        u, _, vh = torch.linalg.svd(moved, full_matrices=False)
        y = u @ vh
    return y


@pytest.mark.parametrize("kind", ["tangent", "published"])
def test_factors_move_as_the_authors_procedure_says(kind):
    method = _method(step=kind, step_width=20)
    task = _second_task_begun(method)
    method.model.double()
    method._closed = {n: torch.linalg.qr(f.double()).Q for n, f in method._closed.items()}
    with torch.no_grad():
        for y, closed in method._factors():
            start = y if closed is None else y - closed @ closed.T @ y
            y.copy_(torch.linalg.qr(start).Q)
    optimizer = make_optimizer(method.parameter_groups(task), method.train)
    starts = [y.detach().clone() for y, _ in method._factors()]
    generator = torch.Generator().manual_seed(3)
    gradients = [
        [torch.randn(y.shape, generator=generator, dtype=y.dtype) for _ in range(4)] for y in starts
    ]
    step = make_train_step(method, task.train, slice(0, 2))
    for number in range(4):
        for parameter in method.trainable().values():
            parameter.grad = torch.zeros_like(parameter)
        for (y, _), own in zip(method._factors(), gradients, strict=True):
            y.grad = own[number].clone()
        method.apply(step, optimizer)
    found = zip(method._factors(), starts, gradients, strict=True)
    for (y, closed), start, own in found:
        nothing = start.new_zeros(len(start), 0)
        expected = _reference_steps(
            start,
            nothing if closed is None else closed,
            own,
            lr=method.train.lr,
            width=20,
            is_published=kind == "published",
        )
        torch.testing.assert_close(y.detach(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(
    "net", [{}, {"biases": True, "bias": "augmented"}, {"heads": "shared"}], ids=str
)
def test_updates_have_equal_singular_values_and_keep_off_what_is_protected(optimizer, net):
    method = _method(train={"optimizer": optimizer}, net=net, scaling=0.5)
    method.consolidate(_learned(method, 1), lambda _: None)
    closed = method.outputs("build")["memory"]
    before = {name: layer.matrix().clone() for name, layer in method.layers.items()}
    _learned(method, 2)
    update = method.outputs("train")["update"]
    for name, layer in method.layers.items():
        a, b, s = (update[f"{name}.{key}"] for key in "ABs")
        change = (layer.matrix() - before[name]).double()
        torch.testing.assert_close(change, s * (b @ a).double(), rtol=1e-4, atol=1e-6)
        rank = len(a)
        torch.testing.assert_close(a @ a.T, torch.eye(rank), atol=1e-5, rtol=0)
        torch.testing.assert_close(b.T @ b, torch.eye(rank), atol=1e-5, rtol=0)
        leak = a @ closed[f"{name}.F"]
        torch.testing.assert_close(leak, torch.zeros_like(leak), atol=1e-5, rtol=0)
        assert abs(float(s)) > 1e-3
        sigma = torch.linalg.svdvals(change)
        assert float(sigma[rank - 1]) == pytest.approx(abs(float(s)), rel=1e-3)
        assert float(sigma[0]) == pytest.approx(abs(float(s)), rel=1e-3)


def test_convolutions_learn_and_keep_off_as_matrices_do():
    settings = make_settings(
        method={"name": "eblora"},
        train=TRAIN,
        net={"name": "alexnet", "width": 0.05},
        methods={"eblora": {"rank": 3, "energy": 0.8}},
    )
    shape = (1, 32, 32)
    method = make_method(settings, shape)
    for number in (1, 2):
        add_task(method, number)
        task = make_task(number, n=12, shape=shape)
        closed = method.outputs("build")["memory"]
        before = {name: layer.matrix().clone() for name, layer in method.layers.items()}
        _begin(method, task)
        for _ in make_steps(method, task, 3, size=6):
            pass
        method.end_task(task)
        method.consolidate(task, lambda _: None)
    for name, layer in method.layers.items():
        change = (layer.matrix() - before[name]).double()
        sigma, f = torch.linalg.svdvals(change), closed[f"{name}.F"].double()
        rank = min(3, layer.out, layer.dim - f.shape[1])
        assert rank > 0
        assert float(sigma[rank - 1]) == pytest.approx(float(sigma[0]), rel=1e-3)
        assert float((change @ f).norm()) < 1e-4 * float(change.norm())


def test_the_layer_computes_with_the_update_that_its_file_will_have():
    method = _method(net={"biases": True, "bias": "augmented"}, scaling=2.0, initial_scale=0.3)
    _second_task_begun(method)
    layer = method.layers["fc1"]
    tensors = method._updates["fc1"].tensors()
    assert float(tensors["s"]) == pytest.approx(-0.6)
    x = torch.randn(5, 16)
    rows = torch.cat([x, torch.ones(5, 1)], dim=1).double()
    whole = layer.matrix().double() + tensors["s"] * (tensors["B"] @ tensors["A"]).double()
    torch.testing.assert_close(layer.module(x), (rows @ whole.T).float(), rtol=1e-4, atol=1e-5)


def test_initial_scales_rise_from_layer_to_layer():
    method = _method(initial_scale=0.1, initial_scale_slope=0.4)
    _second_task_begun(method)
    scales = [update.scale.item() for update in method._updates.values()]
    assert scales == pytest.approx([-0.1, -0.5])


def _mean_gradients(method, images):
    """Return the mean over images of the gradient of each one's loss, by layer, float64."""
    model = method.model.double().eval()
    batch = images.batch(slice(None))
    named = {n: p.detach() for n, p in model.named_parameters()}

    def loss(parameters, x, y):
        return functional.cross_entropy(functional_call(model, parameters, (x[None],)), y[None])

    of_images = vmap(grad(loss), in_dims=(None, 0, 0))(named, batch.x.double(), batch.y)
    return {n: of_images[f"backbone.{n}.weight"].mean(dim=0) for n in method.layers}


def _extended(gradient, closed, energy):
    """Return the protected directions with those of a gradient, as section 6.3 (d) has it."""
    x = gradient.T
    total = float(x.square().sum())
    rest = x - closed @ (closed.T @ x)
    u, sigma, _ = torch.linalg.svd(rest, full_matrices=False)
    share, count = (total - float(rest.square().sum())) / total, 0
    while share < energy:
        share += float(sigma[count]) ** 2 / total
        count += 1
    return torch.cat([closed, u[:, :count]], dim=1)


def test_protected_directions_grow_by_the_leading_ones_of_mean_gradients():
    method = _method(gradient_fraction=1.0)
    known = {name: torch.zeros(layer.dim, 0).double() for name, layer in method.layers.items()}
    for number in (1, 2):
        task = _learned(method, number)
        rows = method.consolidate(task, lambda _: None)
        gradients = _mean_gradients(method, task.train)
        method.model.float()
        found = method.outputs("build")["memory"]
        for row in rows:
            expected = _extended(gradients[row.layer], known[row.layer], 0.8)
            known[row.layer] = expected
            f = found[f"{row.layer}.F"].double()
            assert row.rank == row.d - f.shape[1]
            torch.testing.assert_close(f @ f.T, expected @ expected.T, rtol=1e-4, atol=1e-4)


def test_with_activations_it_protects_the_leading_directions_of_inputs():
    method = _method(memory="activation", gradient_fraction=0.5, energy=0.9)
    task = _learned(method, 1)
    method.consolidate(task, lambda _: None)
    x = task.train.batch(torch.arange(12) * 2).x.flatten(1).double()
    _, sigma, vh = torch.linalg.svd(x, full_matrices=False)
    shares = sigma.square().cumsum(0) / sigma.square().sum()
    directions = vh[: int((shares < 0.9).sum()) + 1].T
    f = method.outputs("build")["memory"]["fc1.F"].double()
    torch.testing.assert_close(f @ f.T, directions @ directions.T, rtol=1e-4, atol=1e-4)


def test_factors_start_at_the_flattened_gradient_downhill():
    method = _method(gradient_fraction=1.0, initial_scale=0.2)
    task = _second_task_begun(method)
    update, closed = method._updates["fc1"], method._closed["fc1"].double()
    tensors = update.tensors()
    for own in method._updates.values():
        own.detach()  # the gradient was that of the model without updates
    gradient = _mean_gradients(method, task.train)["fc1"]
    x = gradient.T - closed @ (closed.T @ gradient.T)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    product = (tensors["B"] @ tensors["A"]).double()
    torch.testing.assert_close(product, (u[:, :3] @ vh[:3]).T, rtol=1e-3, atol=1e-4)
    assert float((tensors["s"] * product * gradient).sum()) < 0


def test_a_layer_without_room_stays_as_it_is():
    method = _method()
    method.consolidate(_learned(method, 1), lambda _: None)
    method._memory["fc1"] = torch.eye(16)
    before = method.layers["fc1"].matrix().clone()
    _learned(method, 2)
    assert torch.equal(method.layers["fc1"].matrix(), before)
    update = method.outputs("train")["update"]
    assert {key.partition(".")[0] for key in update} == {"fc2"}
    assert torch.equal(
        method.recomposition.step({"fc1": before}, {}, {"update": update})["fc1"], before
    )


def test_an_update_of_an_earlier_task_is_no_part_of_a_later_one():
    method = _method()
    for number in (1, 2):
        method.consolidate(_learned(method, number), lambda _: None)
    assert "fc1.s" in method.outputs("train")["update"]
    method._memory["fc1"] = torch.eye(method.layers["fc1"].dim)
    _learned(method, 3)
    assert {name.partition(".")[0] for name in method.outputs("train")["update"]} == {"fc2"}


def test_the_rank_is_no_more_than_the_room_that_is_left():
    method = _method(rank=5)
    method.consolidate(_learned(method, 1), lambda _: None)
    method._memory["fc1"] = torch.eye(16)[:, :14]
    _learned(method, 2)
    update = method.outputs("train")["update"]
    assert update["fc1.A"].shape == (2, 16)
    assert not update["fc1.A"][:, :14].any()


def test_the_first_task_may_be_low_rank_too():
    method = _method(first_task="low-rank")
    before = {name: layer.matrix().clone() for name, layer in method.layers.items()}
    task = _learned(method, 1)
    assert [phase.name for phase in method.phases(task)] == ["head", "train"]
    for name, layer in method.layers.items():
        sigma = torch.linalg.svdvals((layer.matrix() - before[name]).double())
        assert int((sigma > 1e-4 * sigma[0]).sum()) == 3
    assert method.frozen().keys() == _method().frozen().keys()


def test_a_shared_head_does_not_learn_alone():
    method = _method(net={"heads": "shared"})
    assert [phase.name for phase in method.phases(make_task(2))] == ["train"]
    assert [phase.name for phase in _method().phases(make_task(2))] == ["head", "train"]


@pytest.mark.parametrize("memory", ["gradient", "activation"])
def test_tasks_of_one_image_or_one_class_are_no_error(memory):
    method = _method(memory=memory)
    one_class = Images(
        Split(torch.full((6, 1, 4, 4), 9, dtype=torch.uint8), torch.zeros(6, dtype=torch.int64)),
        task=2,
        mean=[0.5],
        std=[0.25],
        device=torch.device("cpu"),
    )
    method.consolidate(make_task(1, n=1), lambda _: None)
    add_task(method, 2)
    task = Task(2, NUM_CLASSES, one_class)
    _begin(method, task)
    for _ in make_steps(method, task, 2, size=3):
        pass
    method.end_task(task)
    method.consolidate(task, lambda _: None)
    for tensors in (method.outputs("train")["update"], method.outputs("build")["memory"]):
        assert all(torch.isfinite(t).all() for t in tensors.values())


def test_gradients_that_are_not_finite_are_refused_by_layer():
    method = _method()
    with torch.no_grad():
        method.layers["fc2"].weight.fill_(math.nan)
    with pytest.raises(NumericalError, match="layer fc1"):
        method.consolidate(make_task(1), lambda _: None)


def test_it_asks_for_adamw_and_epochs_of_the_head_and_refuses_averages():
    options = _method().options
    found = options.adjustments(TrainSettings(epochs=3))
    assert found["optimizer"] == "adamw"
    assert found["head_epochs"] == 2
    assert options.adjustments(TrainSettings(optimizer="adamw", head_epochs=1)) == {}
    assert "train.average" in options.problems(TrainSettings(average=0.1))[0]
    assert options.problems(TrainSettings()) == ()
