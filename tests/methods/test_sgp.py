from __future__ import annotations

import pytest
import torch
from factory import add_task, make_method, make_settings, make_steps, make_task, make_train_step

from ness_cli.methods.sgp import importance
from ness_cli.subspace.protected_directions import separate
from ness_cli.subspace.spectrum import spectrum


def _authors_update(x, memory, old, theta, alpha):
    """The published update of directions and importances, by SVD of inputs (columns samples)."""
    r = x.T
    u, s, _ = torch.linalg.svd(r, full_matrices=False)
    if memory is None:
        covered = torch.cumsum(s.square() / s.square().sum(), 0)
        rank = int((covered < theta).sum())
        return u[:, :rank], (alpha + 1) * s[:rank] / (alpha * s[:rank] + s[0])
    # Singular values of the inputs inside the old memory, brought back onto its directions.
    inner, inner_s, _ = torch.linalg.svd(memory @ memory.T @ r, full_matrices=False)
    k = memory.shape[1]
    on_old = ((memory.T @ inner[:, :k]).square() @ inner_s[:k].square()).sqrt()
    total = r.square().sum()
    residual = r - memory @ memory.T @ r
    u, s, _ = torch.linalg.svd(residual, full_matrices=False)
    covered, new = (total - residual.square().sum()) / total, 0
    for value in s.square() / total:
        if covered >= theta:
            break
        covered, new = covered + value, new + 1
    strength = torch.cat([on_old, s[:new]])
    found = (alpha + 1) * strength / (alpha * strength + strength.max())
    found[:k] = (found[:k] + old).clamp(0, 1)
    return torch.cat([memory, u[:, :new]], dim=1), found


def _x(seed, n=40, d=10):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -2, d, dtype=torch.float64)
    mix = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * scale @ mix


@pytest.mark.parametrize("alpha", [1.0, 10.0])
@pytest.mark.parametrize("theta", [0.5, 0.9, 0.97])
def test_the_scaled_projection_is_that_of_the_authors_procedure(theta, alpha):
    settings = make_settings(
        method={"name": "sgp"}, methods={"sgp": {"scale_coefficient": alpha}}, net={"hidden": [4]}
    )
    method = make_method(settings)
    memory = kept = None
    for seed in range(4):
        x = _x(seed)
        gram = x.T @ x
        found = spectrum(separate(gram, method._memory.get("fc")), layer="fc")
        method.protect("fc", gram, found, theta)
        memory, kept = _authors_update(x, memory, kept, theta, alpha)
        mine = method.outputs("build")["memory"]
        m, scale = mine["fc.M"].double(), mine["fc.importance"].double()
        torch.testing.assert_close(
            m @ torch.diag(scale) @ m.T, memory @ torch.diag(kept) @ memory.T, rtol=1e-4, atol=1e-5
        )
        assert (scale >= 0).all()
        assert (scale <= 1).all()


def test_importance_is_one_for_the_strongest_and_zero_for_unused_directions():
    gram = torch.diag(torch.tensor([9.0, 1.0, 0.0], dtype=torch.float64))
    found = importance(gram, torch.eye(3), alpha=10.0)
    torch.testing.assert_close(found, torch.tensor([1.0, 11 / 13, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("k", [0, 2])
def test_inputs_that_are_zero_leave_every_direction_open(k):
    found = importance(torch.zeros(4, 4, dtype=torch.float64), torch.eye(4)[:, :k], alpha=3.0)
    assert torch.equal(found, torch.zeros(k, dtype=torch.float64))


def test_a_step_is_slowed_along_every_direction_by_its_importance():
    settings = make_settings(method={"name": "sgp"}, train={"momentum": 0.0, "batch_size": 32})
    # A batch larger than the layers: gradients leave the backward pass as they are.
    method = make_method(settings)
    add_task(method, 1)
    method.begin_task(make_task(1))
    method.end_task(make_task(1))
    method.consolidate(make_task(1), lambda _: None)
    add_task(method, 2)
    task = make_task(2)
    method.begin_task(task)
    before = {n: v.matrix().clone().double() for n, v in method.layers.items()}
    method.gradients(make_train_step(method, task.train, slice(0, 8)))
    raw = {n: v.gradient().clone().double() for n, v in method.layers.items()}
    next(make_steps(method, task, 1, size=8))
    stored = method.outputs("build")["memory"]
    for name, view in method.layers.items():
        m, scale = stored[f"{name}.M"].double(), stored[f"{name}.importance"].double()
        assert ((scale > 0) & (scale < 1)).any()
        change = view.matrix().double() - before[name]
        expected = -settings.train.lr * (raw[name] - raw[name] @ m @ torch.diag(scale) @ m.T)
        torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-6)
