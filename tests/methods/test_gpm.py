from __future__ import annotations

import pytest
import torch
from factory import add_task, make_method, make_settings, make_steps, make_task

from ness_cli.errors import SettingsError
from ness_cli.methods.gpm import captured, completing, extend, separate
from ness_cli.subspace.spectrum import spectrum


def _authors_rule(x, memory, theta):
    """The published procedure with SVDs of the inputs, columns as samples, in float64."""
    r = x.T
    if memory is None:
        u, s, _ = torch.linalg.svd(r, full_matrices=False)
        covered = torch.cumsum(s.square() / s.square().sum(), 0)
        return u[:, : int((covered < theta).sum())]
    total = r.square().sum()
    residual = r - memory @ memory.T @ r
    u, s, _ = torch.linalg.svd(residual, full_matrices=False)
    covered, new = (total - residual.square().sum()) / total, 0
    for value in s.square() / total:
        if covered >= theta:
            break
        covered, new = covered + value, new + 1
    return torch.cat([memory, u[:, :new]], dim=1)


def _x(seed, n=40, d=10):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -2, d, dtype=torch.float64)
    mix = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * scale @ mix


def _extend(gram, memory, theta, first_rank="reach"):
    found = spectrum(separate(gram, memory), layer="fc")
    memory = extend(gram, memory, found, theta, first_rank=first_rank)
    rest = completing(memory, found)
    dim, k = memory.shape
    assert (rest is not None) == (2 * k > dim)
    if rest is not None:
        both = torch.cat([memory, rest], dim=1)
        torch.testing.assert_close(both.T @ both, torch.eye(dim), rtol=1e-5, atol=1e-5)
    return memory


@pytest.mark.parametrize("theta", [0.5, 0.9, 0.97, 0.999])
def test_memory_spans_what_the_authors_svd_rule_spans(theta):
    mine = other = None
    for seed in range(4):
        x = _x(seed)
        mine = _extend(x.T @ x, mine, theta, "below")
        other = _authors_rule(x, other, theta)
        assert mine.shape == other.shape
        projector = mine.double() @ mine.double().T
        torch.testing.assert_close(projector, other @ other.T, rtol=1e-5, atol=1e-5)


def test_below_is_one_direction_fewer_than_reach():
    x = _x(0)
    ranks = {rule: _extend(x.T @ x, None, 0.97, rule).shape[1] for rule in ("below", "reach")}
    assert ranks["reach"] == ranks["below"] + 1


def test_reach_carries_the_share_and_below_does_not():
    x = _x(0)
    gram = x.T @ x
    assert captured(gram, _extend(gram, None, 0.97)) >= 0.97
    assert captured(gram, _extend(gram, None, 0.97, "below")) < 0.97


@pytest.mark.parametrize(
    ("x", "theta", "rank"),
    [
        (torch.zeros(5, 6, dtype=torch.float64), 0.97, 0),
        (torch.ones(1, 6, dtype=torch.float64), 1.0, 1),
        (torch.eye(6, dtype=torch.float64)[:3], 1.0, 3),
    ],
)
def test_degenerate_inputs(x, theta, rank):
    memory = _extend(x.T @ x, None, theta)
    assert memory.shape == (6, rank)


def test_inputs_already_protected_add_nothing():
    x = _x(0)
    memory = _extend(x.T @ x, None, 0.99)
    assert torch.equal(_extend(x.T @ x, memory, 0.9), memory)


def test_memory_stays_orthonormal_however_often_it_grows():
    memory = None
    for seed in range(10):
        x = _x(seed, n=3, d=30)
        memory = _extend(x.T @ x, memory, 0.9)
    assert memory.shape[1] > 15
    k = memory.shape[1]
    torch.testing.assert_close(memory.T @ memory, torch.eye(k), rtol=0, atol=1e-6)


def test_a_step_is_orthogonal_to_the_memory():
    settings = make_settings(method={"name": "gpm"}, train={"momentum": 0.9, "weight_decay": 0.1})
    method = make_method(settings)
    for task_number in (1, 2):
        add_task(method, task_number)
        task = make_task(task_number)
        method.begin_task(task)
        before = {n: v.matrix().clone() for n, v in method.layers.items()}
        for _ in make_steps(method, task, 5):
            pass
        if task_number == 2:
            for name, view in method.layers.items():
                change = view.matrix() - before[name]
                assert change.norm() > 0
                assert (change @ method._memory[name]).norm() <= 1e-5 * change.norm()
        method.end_task(task)
        method.consolidate(task, lambda _: None)


def test_a_list_of_another_length_than_the_layers_is_refused():
    settings = make_settings(method={"name": "gpm"}, methods={"gpm": {"threshold": [0.9] * 3}})
    method = make_method(settings)
    add_task(method, 1)
    with pytest.raises(SettingsError, match="3 values for 2 layers"):
        method.consolidate(make_task(1), lambda _: None)
