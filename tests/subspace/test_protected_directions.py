"""Which directions of inputs are protected, against the authors' decompositions of the inputs."""

from __future__ import annotations

import pytest
import torch

from ness_cli.subspace.protected_directions import (
    captured,
    completing,
    extend,
    grow,
    room,
    separate,
    strongest,
)
from ness_cli.subspace.spectrum import Spectrum, spectrum


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


def test_directions_of_equal_energy_are_completed_without_any_of_them():
    """Where wide layers are decomposed, every call chooses vectors of equal eigenvalues anew."""
    sigma = torch.tensor([1.0] * 8 + [2.0] * 2, dtype=torch.float64)
    one, other = torch.eye(10, dtype=torch.float64), torch.eye(10, dtype=torch.float64)
    other[:8, :8] = torch.linalg.qr(torch.arange(64.0).reshape(8, 8).double().cos())[0]
    found = Spectrum(sigma, lambda start, stop: (one if start else other)[:, start:stop])
    memory = grow(torch.zeros(10, 0), found, 6)
    assert (memory.T.double() @ found.between(0, 4)).abs().max() > 0.1
    both = torch.cat([memory, completing(memory, found)], dim=1)
    torch.testing.assert_close(both.T @ both, torch.eye(10), rtol=1e-5, atol=1e-5)


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
    memory = _extend(gram, None, 0.97)
    share = float((x @ memory.double()).square().sum() / x.square().sum())
    assert share >= 0.97
    assert captured(gram, memory) == pytest.approx(share)
    assert room(gram, memory) == (10 - memory.shape[1], pytest.approx(1 - share))
    assert captured(gram, _extend(gram, None, 0.97, "below")) < 0.97


def test_no_energy_is_left_outside_where_everything_is_protected_or_nothing_comes_in():
    x = _x(0)
    assert room(x.T @ x, torch.eye(10)) == (0, 0.0)
    assert room(torch.zeros(10, 10, dtype=torch.float64), torch.zeros(10, 0)) == (10, 0.0)


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


def _authors_memory(x, memory, theta):
    """The published rule with SVDs of the inputs, and all that is chosen appended to the memory."""
    r = x.T
    total = float(r.square().sum())
    of_old = [float((m @ r).square().sum()) for m in memory.T]
    u, s, _ = torch.linalg.svd(r - memory @ memory.T @ r, full_matrices=False)
    named = [(e, i) for i, e in enumerate(of_old)]
    named += [(float(v) ** 2, len(of_old) + i) for i, v in enumerate(s)]
    chosen, carried = [], 0.0
    for energy, index in sorted(named, key=lambda pair: -pair[0]):
        if carried >= theta * total:
            break
        carried += energy
        chosen.append(index)
    new = [i - len(of_old) for i in chosen if i >= len(of_old)]
    everything = torch.cat([memory, u], dim=1)
    return everything[:, sorted(chosen)], torch.cat([memory, u[:, new]], dim=1)


@pytest.mark.parametrize("theta", [0.5, 0.9, 0.97, 0.999])
def test_a_task_keeps_what_the_authors_rule_keeps_and_all_of_it_is_protected(theta):
    generator = torch.Generator().manual_seed(0)
    memory = torch.linalg.qr(torch.randn(10, 2, generator=generator, dtype=torch.float64))[0]
    mine = memory.float()
    for seed in range(4):
        x = _x(seed)
        own, memory = _authors_memory(x, memory, theta)
        gram = x.T @ x
        found = spectrum(separate(gram, mine), layer="fc")
        columns, new = strongest(gram, mine, found, theta)
        mine = grow(mine, found, new)
        basis = mine[:, columns].double()
        assert basis.shape == own.shape
        torch.testing.assert_close(basis @ basis.T, own @ own.T, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            mine.double() @ mine.double().T, memory @ memory.T, rtol=1e-4, atol=1e-5
        )
        # The subspace of the task lies in what is protected, its strongest direction included.
        torch.testing.assert_close(mine.double() @ (mine.double().T @ basis), basis)


@pytest.mark.parametrize(
    ("x", "kept"),
    [
        (torch.zeros(5, 6, dtype=torch.float64), 0),
        (torch.ones(1, 6, dtype=torch.float64), 1),
        (torch.eye(6, dtype=torch.float64)[:3], 3),
    ],
)
@pytest.mark.parametrize("num_old", [0, 6])
def test_degenerate_inputs_keep_no_more_than_they_use(x, kept, num_old):
    gram, memory = x.T @ x, torch.eye(6)[:, :num_old]
    columns, new = strongest(gram, memory, spectrum(separate(gram, memory), layer="fc"), 1.0)
    expected = kept if num_old == 0 or kept != 1 else 6  # a diagonal seen along the axes
    assert len(columns) == expected
    assert new == (kept if num_old == 0 else 0)
