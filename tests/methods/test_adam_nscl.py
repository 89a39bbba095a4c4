from __future__ import annotations

import pytest
import torch
from factory import add_task, make_method, make_settings, make_steps, make_task, make_train_step
from torch.func import functional_call, grad
from torch.nn import functional

from ness_cli.engine.stepper import Stepper
from ness_cli.methods.adam_nscl import smallest
from ness_cli.methods.quadratics import Quadratics
from ness_cli.settings.methods.adam_nscl import Options
from ness_cli.settings.sections import TrainSettings


def _method(net=None, train=None, **options):
    settings = make_settings(
        method={"name": "adam-nscl"},
        net=net or {},
        train={"optimizer": "adam", "lr": 1e-2, **(train or {})},
        methods={"adam-nscl": options},
    )
    method = make_method(settings)
    add_task(method, 1)
    return method


def _learned(method, task, steps=4):
    method.begin_task(task)
    for _ in make_steps(method, task, steps, size=min(8, len(task.train) - steps)):
        pass
    method.end_task(task)
    rows = method.consolidate(task, lambda _: None)
    add_task(method, task.number + 1)
    return {row.layer: row for row in rows}


def _null_space(c, factor):
    """The authors' rule on a covariance, with exact zeros told by the rank of the matrix."""
    vectors, values, _ = torch.linalg.svd(c)
    rank = int(torch.linalg.matrix_rank(c, hermitian=True))
    floor = len(c) * torch.finfo(torch.float64).eps * values[0]
    least = values[-1] if rank == len(c) else floor
    return vectors[:, values <= factor * least]


def _walk(method, task, gradients):
    """Make steps with given gradients of every layer."""
    stepper = Stepper(method, task)
    step = make_train_step(method, task.train)
    for number in range(len(next(iter(gradients.values())))):
        for name, view in method.layers.items():
            parts = gradients[name][number]
            view.weight.grad = parts[:, : view.weight[0].numel()].reshape(view.weight.shape).clone()
            if view.has_bias_column:
                view.parameters["bias"].grad = parts[:, -1].clone()
        method.edit_gradients(step)
        method.apply(step, stepper.optimizer)


@pytest.mark.parametrize("scaling", ["none", "frobenius"])
@pytest.mark.parametrize("net", [{}, {"biases": True, "bias": "augmented"}])
def test_the_whole_step_of_adam_is_projected_and_its_moments_are_not(scaling, net):
    decay = 0.1
    method = _method(net, {"weight_decay": decay}, scaling=scaling, factor=3.0)
    _learned(method, make_task(1, n=10))
    c = method.outputs("build")["covariance"]
    task = make_task(2)
    method.begin_task(task)
    generator = torch.Generator().manual_seed(3)
    gradients, expected = {}, {}
    for name, view in method.layers.items():
        gradients[name] = torch.randn(5, view.out, view.dim, generator=generator)
        u = _null_space(c[f"{name}.C"], 3.0)
        p = u @ u.T
        if scaling == "frobenius":
            p = p / torch.linalg.matrix_norm(p)
        w = view.matrix().double().clone()
        m = v = torch.zeros_like(w)
        for t, g in enumerate(gradients[name], start=1):
            g = g.double() + decay * w
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            w = w - 1e-2 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8) @ p
        expected[name] = w
    before = {name: view.matrix().clone() for name, view in method.layers.items()}
    _walk(method, task, gradients)
    for name, view in method.layers.items():
        torch.testing.assert_close(view.matrix().double(), expected[name], rtol=0, atol=2e-6)
        # Not what Adam makes of a projected gradient, nor a step along all directions.
        assert (view.matrix() - before[name]).norm() > 1e-3


def test_earlier_inputs_see_nothing_of_a_task_that_learns_in_their_null_space():
    method = _method({"hidden": [30, 40]}, factor=1.0)
    first = make_task(1, n=8)  # fewer images than any layer has inputs
    _learned(method, first, steps=2)
    with method.task_view(1) as model:
        before = model(first.train.batch(slice(0, 8)).x)
    task = make_task(2)
    method.begin_task(task)
    old = method.model.backbone.fc1.weight.detach().clone()
    for _ in make_steps(method, task, 10):
        pass
    method.end_task(task)
    with method.task_view(1) as model:
        after = model(first.train.batch(slice(0, 8)).x)
    assert (method.model.backbone.fc1.weight - old).norm() > 1e-2
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_directions_up_to_a_multiple_of_the_smallest_eigenvalue_are_open(factor):
    eigenvalues = torch.tensor([0.5, 0.5, 4.0, 5.1, 80.0], dtype=torch.float64)
    tau = smallest(eigenvalues.sqrt(), factor)
    assert int((eigenvalues.sqrt() <= tau + 1e-12).sum()) == (2 if factor == 1 else 3)
    assert tau**2 == pytest.approx(0.5 * factor)


def test_eigenvalues_that_are_rounding_are_open_and_hide_no_others():
    # The least one is negative in exact rounding and clamped: times ten it is still zero.
    sigma = torch.tensor([0.0, 1e-17, 3e-17, 1.0, 2.0], dtype=torch.float64).sqrt()
    assert int((sigma <= smallest(sigma, 1.0)).sum()) == 3
    silent = torch.zeros(4, dtype=torch.float64)
    assert int((silent <= smallest(silent, 10.0)).sum()) == 4


def test_one_image_of_one_class_leaves_every_other_direction_open():
    method = _method(factor=1.0)
    rows = _learned(method, make_task(1, n=1), steps=0)
    for name, view in method.layers.items():
        assert rows[name].rank == view.dim - 1


def test_the_share_of_energy_is_at_most_what_was_asked_for():
    method = _method(threshold="energy", energy=0.05)
    rows = _learned(method, make_task(1))
    c = method.outputs("build")["covariance"]
    for name, row in rows.items():
        values = torch.linalg.eigvalsh(c[f"{name}.C"])
        shares = values.cumsum(0) / values.sum()
        assert row.rank == int((shares <= 0.05).sum())
        assert row.energy_percent <= 5


@pytest.mark.parametrize("covariance", ["all", "batch-mean"])
def test_covariances_add_up_over_tasks_of_images_or_of_the_means_of_batches(covariance):
    method = _method(train={"batch_size": 10}, covariance=covariance)
    expected = torch.zeros(16, 16, dtype=torch.float64)
    for number in (1, 2):
        task = make_task(number)
        _learned(method, task)
        for start in range(0, 24, 10 if covariance == "batch-mean" else 1):
            size = 10 if covariance == "batch-mean" else 1
            x = task.train.batch(slice(start, min(24, start + size))).x.flatten(1).mean(0).double()
            expected += torch.outer(x, x)
    torch.testing.assert_close(
        method.outputs("build")["covariance"]["fc1.C"], expected, rtol=1e-6, atol=1e-6
    )


def test_the_sum_of_many_pulls_is_kept_as_three_sums():
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 7, generator=generator, dtype=torch.float64) for _ in range(4)]
    pulls, b = Quadratics(), torch.nn.Parameter(torch.randn(7, dtype=torch.float64))
    for f, center in parts:
        pulls.add("b", f.square().where(center > -1, 0), center)
    pulls.hold({"b": b})
    expected = sum(
        (f.square().where(center > -1, 0) * (b - center).square()).sum() for f, center in parts
    )
    torch.testing.assert_close(pulls.value(), expected)
    (mine,) = torch.autograd.grad(pulls.value(), b)
    torch.testing.assert_close(mine, torch.autograd.grad(expected, b)[0])
    assert Quadratics().value() is None


def test_scales_and_shifts_are_pulled_back_by_what_mattered_to_predictions():
    method = _method({"batch_norm": True}, {"batch_size": 10}, norm_strength=100.0)
    task = make_task(1)
    _learned(method, task)
    model = method.model.double().eval()
    model.select(1)
    shared = {n: p.detach() for n, p in model.named_parameters() if p in model.shared_affine()}
    expected = {name: torch.zeros_like(p) for name, p in shared.items()}

    def loss(values, x, y):
        return functional.cross_entropy(functional_call(model, values, (x,)), y)

    pieces = task.train.batch_slices(10, 1)
    for where in pieces:
        x = task.train.batch(where).x.double()
        for name, g in grad(loss)(shared, x, model(x).argmax(1)).items():
            expected[name] += len(x) / len(pieces) * g.square()
    norms = method.outputs("build")["norms"]
    assert len(norms) == 3 * len(shared) == 12
    for name, f in expected.items():
        torch.testing.assert_close(norms[f"{name}.weight"].double(), f, rtol=1e-3, atol=1e-7)
        torch.testing.assert_close(norms[f"{name}.center"].double(), shared[name])
    model.float()
    method.begin_task(make_task(2))
    assert method.penalty(None).item() == 0
    with torch.no_grad():
        method.model.backbone.norm1.scale["shared"].add_(0.5)
    f = norms["backbone.norm1.scale.shared.weight"]
    assert method.penalty(None).item() == pytest.approx(float(100 * f.sum() / 4), rel=1e-4)


def test_without_a_strength_scales_and_shifts_rest_after_the_first_task():
    for options, moves in (({}, False), ({"norm_strength": 0.0}, True)):
        method = _method({"batch_norm": True}, **options)
        _learned(method, make_task(1))
        before = method.model.backbone.norm1.scale["shared"].detach().clone()
        _learned(method, make_task(2))
        after = method.model.backbone.norm1.scale["shared"]
        assert torch.equal(before, after) != moves


def test_layers_norms_and_heads_have_rates_of_their_own():
    method = _method(
        {"batch_norm": True},
        {"weight_decay": 0.1},
        norm_strength=1.0,
        first_lr_factor=0.1,
        lr_factor=0.05,
        norm_lr_factor=0.5,
    )
    for number, own in ((1, 0.1), (2, 0.05)):
        task = make_task(number)
        method.begin_task(task)
        groups = Stepper(method, task).optimizer.param_groups
        found = [(group["lr"] / 1e-2, group["weight_decay"]) for group in groups]
        assert found == [
            (pytest.approx(own), 0.1),
            (pytest.approx(0.5), 0.1),
            (pytest.approx(1), 0.0),
        ]
        _learned(method, task)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_any_step_is_projected_decay_included(optimizer):
    method = _method(train={"optimizer": optimizer, "weight_decay": 0.1}, factor=2.0)
    _learned(method, make_task(1, n=10))
    c = method.outputs("build")["covariance"]["fc1.C"]
    before = method.layers["fc1"].matrix().double().clone()
    task = make_task(2)
    method.begin_task(task)
    for _ in make_steps(method, task, 6):
        pass
    change = method.layers["fc1"].matrix().double() - before
    u = _null_space(c, 2.0)
    assert change.norm() > 1e-4
    assert (change - change @ u @ u.T).norm() < 1e-5 * before.norm()


def test_a_preset_with_sgd_is_given_adam_and_one_with_adam_is_left_alone():
    options = Options()
    found = options.adjustments(TrainSettings())
    assert found == {"optimizer": "adam", "lr": 1e-3}
    assert TrainSettings(**found).is_adaptive
    assert options.adjustments(TrainSettings(optimizer="adamw", lr=0.5)) == {}
