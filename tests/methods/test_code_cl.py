"""CODE-CL, against its authors' procedure on whole float64 matrices, written here."""

from __future__ import annotations

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

from ness_cli.engine.stepper import Stepper
from ness_cli.errors import SettingsError
from ness_cli.methods.step import StepProgress
from ness_cli.methods.task import Task
from ness_cli.subspace.conceptor import Conceptor
from ness_cli.subspace.layer_inputs import observed_inputs


def _method(*, net=None, train=None, **options):
    own = {"samples": 100, "mix": 5, "overlap": 0.1, "aperture": 30.0, **options}
    settings = make_settings(
        method={"name": "code-cl"},
        methods={"code-cl": own},
        net={"hidden": [64, 60], **(net or {})},
        train={"lr": 0.01, **(train or {})},
    )
    return make_method(settings)


@torch.no_grad()
def _look(method, task, inputs):
    seen = observed_inputs(method.layers, inputs.__setitem__)
    with seen, method.task_view(task.number) as model:
        model(task.train.batch(slice(None)).x)


def _train(method, task_number, task=None):
    task = task or make_task(task_number, n=90)
    add_task(method, task_number)
    method.begin_task(task)
    for _ in make_steps(method, task, 10, size=min(8, len(task.train) - 9)):
        pass
    method.end_task(task)
    files = method.outputs("train")
    inputs = {}
    _look(method, task, inputs)
    method.consolidate(task, lambda _: None)
    return files, {name: x.double() for name, x in inputs.items()}


def _matrix(files, layer):
    u, value = (files["memory"][f"{layer}.{kind}"].double() for kind in ("U", "value"))
    return (u * value) @ u.T


def _new_conceptor(x, *, aperture=30.0, share=0.95):
    r, eye = x.T @ x / len(x), torch.eye(x.shape[1], dtype=torch.float64)
    while True:
        c = r @ torch.linalg.inv(r + aperture**-2 * eye)
        if (x @ c).norm(dim=1).sum() / x.norm(dim=1).sum() >= share:
            return c
        aperture *= 1.1


def _cut(c, lowest=0.2):
    u, s, _ = torch.linalg.svd((c + c.T) / 2)
    return (u * torch.where(s < lowest, 0.0, s)) @ u.T


def _or(c, b):
    """Not (not C and not B) where both complements are invertible."""
    eye = torch.eye(len(c), dtype=torch.float64)
    return eye - torch.linalg.inv(torch.linalg.inv(eye - c) + torch.linalg.inv(eye - b) - eye)


@pytest.mark.parametrize("net", [{}, {"biases": True, "bias": "augmented"}])
def test_memory_is_the_authors_conceptor_of_mixed_inputs(net):
    method = _method(net=net)
    expected: dict[str, torch.Tensor] = {}
    for task_number in (1, 2, 3):
        files, inputs = _train(method, task_number)
        for name, x in inputs.items():
            if f"{name}.Q" in files["mixing"]:
                q, m = (files["mixing"][f"{name}.{letter}"].double() for letter in "QM")
                x = x + x @ q @ (m - torch.eye(len(m))).T @ q.T
            if net:
                x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)  # a bias is not mixed
            new = _new_conceptor(x)
            expected[name] = _cut(_or(expected[name], new) if name in expected else new)
            found = _matrix(method.outputs("build"), name)
            torch.testing.assert_close(found, expected[name], atol=1e-4, rtol=0)
    assert files["mixing"]


def test_a_step_is_the_gradient_off_the_conceptor():
    method = _method(overlap=2.0)  # no layer is mixed
    _train(method, 1)
    task = make_task(2, n=90)
    add_task(method, 2)
    step, view = make_train_step(method, task.train), method.layers["fc2"]
    raw = torch.autograd.grad(method.loss(step), view.weight)[0].double()
    method.begin_task(task)
    memory = method.outputs("build")
    method.gradients(step)
    method.edit_gradients(step)
    expected = raw - raw @ _matrix(memory, "fc2")
    torch.testing.assert_close(view.gradient().double(), expected, atol=1e-6, rtol=1e-4)
    method.end_task(task)


def test_a_task_mixes_what_it_shares_with_earlier_ones_only():
    method = _method()
    _train(method, 1)
    task = make_task(2, n=90)
    add_task(method, 2)
    inputs = {}
    _look(method, task, inputs)
    method.begin_task(task)
    assert "fc1" not in method._mixed  # 16 inputs: too narrow
    old, new = (
        _matrix(method.outputs("build"), "fc2"),
        _cut(_new_conceptor(inputs["fc2"].double())),
    )
    eye = torch.eye(64, dtype=torch.float64)
    null = sum(eye - torch.linalg.pinv(c, rtol=1e-6) @ c for c in (old, new))
    s, w = torch.linalg.eigh(null)
    w = w[:, s < 1e-5]
    inverse = sum(torch.linalg.pinv(c, rtol=1e-6) for c in (old, new)) - eye
    shared = w @ torch.linalg.inv(w.T @ inverse @ w) @ w.T
    ratio = shared.trace() / old.trace()
    found = {m: "fc2" in _begun(_after_one(overlap=float(ratio) * m)) for m in (0.99, 1.01)}
    assert found == {0.99: True, 1.01: False}
    values, vectors = torch.linalg.eigh(shared)
    num = min(5, int((values > 1e-3).sum()))
    expected = vectors[:, -num:] @ vectors[:, -num:].T
    q = method._mixed["fc2"].directions.double()
    torch.testing.assert_close(q @ q.T, expected, atol=1e-3, rtol=0)
    bound = 1 / q.shape[1] ** 0.5
    matrix = method._mixed["fc2"].matrix.detach()
    assert matrix.abs().max() <= bound
    assert matrix.std() > bound / 3
    method.end_task(task)


def test_the_constant_of_a_bias_leaves_no_direction_behind(monkeypatch):
    method = _after_one(net={"biases": True, "bias": "augmented"}, overlap=0.0)
    columns = torch.zeros(65, 2, dtype=torch.float64)
    columns[64, 0] = columns[7, 1] = 1
    shared = Conceptor(columns, torch.tensor([0.9, 0.8]).double())
    monkeypatch.setattr("ness_cli.methods.code_cl.both", lambda old, new: shared)
    add_task(method, 2)
    found = method.directions_to_mix(make_task(2, n=90), lambda _: None)["fc2"]
    assert found.shape == (64, 1)
    assert abs(float(found[7, 0])) == pytest.approx(1)


def _after_one(**options):
    method = _method(**options)
    _train(method, 1)
    return method


def _begun(method):
    add_task(method, 2)
    method.begin_task(make_task(2, n=90))
    return method._mixed


def test_a_task_that_begins_again_starts_from_the_same_matrices():
    first, second = _begun(_after_one()), _begun(_after_one())
    assert first.keys() == second.keys() == {"fc2"}
    assert torch.equal(first["fc2"].directions, second["fc2"].directions)
    assert torch.equal(first["fc2"].matrix, second["fc2"].matrix)


def test_one_sample_and_a_task_of_one_class_are_learned():
    method = _method()
    _train(method, 1)
    images = make_images(2, n=1)
    task = Task(number=2, num_classes=3, train=images)
    add_task(method, 2)
    method.begin_task(task)
    Stepper(method, task).step(images, torch.tensor([0]), StepProgress(0, 0, 1, 1))
    method.end_task(task)
    rows = method.consolidate(task, lambda _: None)
    assert all(0 <= row.energy_percent <= 100 for row in rows)
    for name, view in method.layers.items():
        assert torch.isfinite(view.matrix()).all(), name
        assert torch.isfinite(_matrix(method.outputs("build"), name)).all(), name


def test_adam_is_refused():
    with pytest.raises(SettingsError, match="does not confine adam"):
        make_settings(method={"name": "code-cl"}, train={"optimizer": "adam"})
