from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from factory import (
    add_task,
    begin_with_stored_images,
    make_images,
    make_method,
    make_settings,
    make_task,
    make_train_step,
)
from scipy.optimize import minimize
from torch.nn import functional

from ness_cli.engine.stepper import Stepper
from ness_cli.methods.agem import without_conflict
from ness_cli.methods.step import StepProgress


def _method(name="agem", train=None, net=None, **options):
    settings = make_settings(
        method={"name": name},
        train={"momentum": 0.0, **(train or {})},
        net=net or {},
        methods={name: options},
    )
    return make_method(settings)


def _flat(tensors, like):
    return torch.cat(
        [
            (torch.zeros_like(x) if t is None else t).flatten()
            for t, x in zip(tensors, like, strict=True)
        ]
    )


def _solution(g, r):
    """Solve min (1/2) ||x - g||^2 with <x, r> >= 0 numerically, float64."""
    found = minimize(
        lambda x: 0.5 * ((x - g) ** 2).sum(),
        jac=lambda x: x - g,
        x0=g,
        constraints=[{"type": "ineq", "fun": lambda x: x @ r, "jac": lambda _: r}],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 200},
    )
    assert found.success
    return torch.from_numpy(found.x)


@pytest.mark.parametrize("seed", range(8))
def test_it_solves_the_quadratic_program(seed):
    generator = torch.Generator().manual_seed(seed)
    like = [torch.empty(3, 2), torch.empty(4), torch.empty(2, 1, 2)]
    g, r = (
        [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in like]
        for _ in range(2)
    )
    if seed % 2:  # parameters that only one of them has
        g[0], r[1] = None, None
    like = [x.double() for x in like]
    found = _flat(without_conflict(g, r), like)
    expected = _solution(_flat(g, like).numpy(), _flat(r, like).numpy())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    assert float(found @ _flat(r, like)) > -1e-12


def test_both_cases_of_the_program_occur():
    g, r = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    (found,) = without_conflict([g], [r])
    torch.testing.assert_close(found, torch.tensor([0.5, 0.5]))
    kept = [g]
    assert without_conflict(kept, [-r]) is kept


def test_a_reference_of_zeros_and_none_at_all_change_nothing():
    g = [torch.tensor([1.0, -2.0])]
    assert without_conflict(g, [torch.zeros(2)]) is g
    assert without_conflict(g, [None]) is g
    tiny = [torch.tensor([-1e-30, 0.0])]  # its square is zero in float32
    assert all(torch.isfinite(x).all() for x in without_conflict(g, tiny))


def test_what_is_not_finite_stays_so_and_is_found_by_training():
    g = [torch.tensor([float("nan"), 1.0])]
    assert without_conflict(g, [torch.ones(2)]) is g


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_step_is_that_of_the_authors_procedure_in_float64(sign):
    """Stored images on their own heads; both gradients over all parameters together.

    Task 3 shows the images of task 1 again, on a head that agrees with that of task 1 or opposes
    it, so that gradients agree or oppose each other.
    """
    method = _method(memory_batch=1000)
    begin_with_stored_images(method, 3)
    images = make_images(1)
    images.task = 3
    task = replace(make_task(3), train=images)
    method.begin_task(task)
    with torch.no_grad():
        method.model.head(2).weight.zero_()
        method.model.head(3).weight.copy_(sign * method.model.head(1).weight)
    step = make_train_step(method, images, slice(0, 8))
    method.gradients(step)
    method.edit_gradients(step)
    named = dict(method.model.named_parameters())
    grads = {name: p.grad for name, p in named.items()}
    # Heads of earlier tasks move where there is something to take out, and rest where not.
    assert (grads["heads.1.weight"] is None) == (sign > 0)

    model, parameters = method.model.double(), [named[name] for name in grads]

    def loss(task_number, source, count):
        model.select(task_number)
        batch = source.batch(slice(0, count))
        return functional.cross_entropy(model(batch.x.double()), batch.y)

    old = (loss(1, make_images(1), 24) + loss(2, make_images(2), 24)) / 2
    g = torch.autograd.grad(loss(3, images, 8), parameters, allow_unused=True)
    r = torch.autograd.grad(old, parameters, allow_unused=True)
    g, r = _flat(g, parameters), _flat(r, parameters)
    assert sign * float(g @ r) > 0
    expected = g - min(0.0, float(g @ r)) / float(r @ r) * r
    found = _flat([None if x is None else x.double() for x in grads.values()], parameters)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_first_task_and_a_head_that_learns_alone_are_those_of_finetuning():
    models = []
    for name in ("agem", "finetune"):
        method = _method(name)
        add_task(method, 1)
        task = make_task(1)
        method.begin_task(task)
        stepper = Stepper(method, task)
        for step in range(3):
            stepper.step(task.train, torch.arange(step, step + 8), StepProgress(0, step, 3, 1))
        models.append(method.model.state_dict())
    for key, value in models[0].items():
        assert torch.equal(value, models[1][key]), key


def test_all_images_are_drawn_while_there_are_no_more():
    method = _method(memory=20, memory_batch=20)
    task = begin_with_stored_images(method, 3)
    batches = method.replayed(make_train_step(method, task.train), 20, is_mixed=True)
    assert sum(map(len, batches)) == 20
    assert [batch.task for batch in batches] == [1, 2]
    rows = torch.cat([batch.x.flatten(1) for batch in batches])
    assert len(rows.unique(dim=0)) == 20
