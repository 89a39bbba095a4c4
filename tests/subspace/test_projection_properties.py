"""Projections, conceptors and budgets of any inputs: they never add to what is protected."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ness_cli.subspace.basis import filtered_basis
from ness_cli.subspace.budget import Directions, nearest, output_energy
from ness_cli.subspace.conceptor import Conceptor, both, either
from ness_cli.subspace.projection import Projector
from ness_cli.subspace.recursive_projector import close_
from ness_cli.subspace.spectrum import spectrum

DIMS, RANKS, SEEDS = st.integers(1, 9), st.integers(0, 9), st.integers(0, 99)
DECADES = st.sampled_from([0, 3, 15])
TAUS = [0.0, 1e-30, 1e-8, 1e-2, 1.0, 1e30]


def _vectors(d: int, seed: int) -> torch.Tensor:
    """Return orthonormal columns, ``[d, d]`` float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q


def _inputs(d: int, rank: int, decades: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return eigenvectors of a covariance and its singular values, which span decades."""
    sigma = torch.zeros(d, dtype=torch.float64)
    rank = min(rank, d)
    sigma[:rank] = torch.logspace(0, -decades, rank, dtype=torch.float64) if rank else sigma[:0]
    return _vectors(d, seed), sigma


def _steps(d: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + 1000)
    return torch.randn(5, d, generator=generator, dtype=torch.float64)


def _assert_never_more(after: torch.Tensor, before: torch.Tensor, covariance: torch.Tensor) -> None:
    largest = float(covariance.diagonal().sum())
    slack = 1e-5 * largest * float(before.square().sum())
    assert output_energy(after, covariance) <= output_energy(before, covariance) + slack


@pytest.mark.parametrize("kind", ["all", "part"])
@given(d=DIMS, rank=RANKS, decades=DECADES, seed=SEEDS, has_rest=st.booleans())
@settings(max_examples=25)
def test_a_projection_off_used_directions(kind, d, rank, decades, seed, has_rest):
    """Of GPM, TRGP and hard NESS all of a step is taken off, of SGP and CODE-CL a part."""
    u, sigma = _inputs(d, rank, decades, seed)
    k = int((sigma > 0).sum())
    importance = torch.linspace(1, 0.1, k) if kind == "part" else None
    columns, rest = u[:, :k].float(), u[:, k:].float()
    projector = Projector.off(columns, importance, rest if has_rest else None)
    p = projector(torch.eye(d))
    torch.testing.assert_close(p, p.T, atol=1e-6, rtol=0)
    values = torch.linalg.eigvalsh(p.double())
    assert -1e-5 <= values.min() <= values.max() <= 1 + 1e-5
    if projector.is_idempotent:
        torch.testing.assert_close(projector(p), p, atol=2e-6, rtol=0)
    covariance = (u * sigma.square()) @ u.T
    step = _steps(d, seed)
    _assert_never_more(projector(step.float()).double(), step, covariance)
    closed = projector(step.float()) @ columns
    expected = (step @ u[:, :k]).float() * (0 if importance is None else 1 - importance)
    torch.testing.assert_close(closed, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scaling", ["hard", "bounded", "conceptor", "none"])
@given(d=DIMS, rank=RANKS, decades=DECADES, seed=SEEDS, tau=st.sampled_from(TAUS))
@settings(max_examples=20)
def test_a_filter_of_ness(scaling, d, rank, decades, seed, tau):
    """From everything closed to everything open it is symmetric, in [0, 1], and keeps its bound."""
    u, sigma = _inputs(d, rank, decades, seed)
    covariance = (u * sigma.square()) @ u.T
    found = spectrum(covariance, layer="fc")
    step = _steps(d, seed)
    for keep_open in (True, False):
        basis = filtered_basis(found, tau, scaling, gamma=1.0, keep_open=keep_open)
        projector = basis.projector(torch.device("cpu"))
        p = projector(torch.eye(d))
        torch.testing.assert_close(p, p.T, atol=1e-6, rtol=0)
        values = torch.linalg.eigvalsh(p.double())
        assert -1e-5 <= values.min() <= values.max() <= 1 + 1e-5
        if projector.is_idempotent:
            torch.testing.assert_close(projector(p), p, atol=2e-6, rtol=0)
        moved = projector(step.float()).double()
        _assert_never_more(moved, step, covariance)
        if scaling != "none":  # ||dW X|| <= tau ||dW||, Eq. 8 of the paper
            bound = (tau + 1e-5) * float(step.norm())
            assert output_energy(moved, covariance) <= bound**2


@given(d=DIMS, rank=RANKS, decades=DECADES, seed=SEEDS, share=st.sampled_from([0.0, 1e-3, 0.3, 2]))
@settings(max_examples=40)
def test_the_nearest_update_within_a_budget(d, rank, decades, seed, share):
    u, sigma = _inputs(d, rank, decades, seed)
    covariance = (u * sigma.square()) @ u.T
    directions = [Directions.of_eigenvectors(u, sigma, float(sigma.max()))]
    step = _steps(d, seed)
    allowed = share * output_energy(step, covariance)
    found = nearest(step, directions, allowed)
    # Directions whose inputs are rounding beside the largest are open, and cost nothing.
    noise = float(step.square().sum()) * d * torch.finfo(torch.float64).eps
    assert output_energy(found, covariance) <= allowed * (1 + 1e-9) + 10 * noise
    assert found.norm() <= step.norm() * (1 + 1e-12)
    torch.testing.assert_close(nearest(found, directions, allowed), found, atol=1e-6, rtol=1e-6)
    if share > 1:
        assert found is step


@given(d=DIMS, first=RANKS, second=RANKS, seed=SEEDS)
@settings(max_examples=25)
def test_conceptors_of_two_tasks_are_ordered(d, first, second, seed):
    """A and B <= A <= A or B: what is protected only grows, and shares are in (0, 1)."""
    made = []
    for rank, own in ((first, seed), (second, seed + 100)):
        k = min(rank, d)
        values = torch.linspace(0.95, 0.05, k, dtype=torch.float64)
        made.append(Conceptor(_vectors(d, own)[:, :k], values))
    a = made[0].within(torch.eye(d, dtype=torch.float64))
    found = [each(*made).within(torch.eye(d, dtype=torch.float64)) for each in (both, either)]
    for low, high in ((found[0], a), (a, found[1])):
        torch.testing.assert_close(low, low.T)
        assert torch.linalg.eigvalsh(high - low).min() >= -1e-5
    for each in found:
        assert -1e-9 <= torch.linalg.eigvalsh(each).min() <= torch.linalg.eigvalsh(each).max() < 1


@given(d=DIMS, n=RANKS, alpha=st.sampled_from([1e-6, 1.0, 1e6]), seed=SEEDS)
@settings(max_examples=25)
def test_owm_only_closes(d, n, alpha, seed):
    """P stays symmetric and in [0, 1], and no input leaves more room than there was before."""
    p = torch.eye(d, dtype=torch.float64)
    for each in range(3):
        before = p.clone()
        rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed + each)).double()
        close_(p, rows, alpha)
        torch.testing.assert_close(p, p.T)
        assert torch.linalg.eigvalsh(before - p).min() >= -1e-9
        assert torch.linalg.eigvalsh(p).min() >= -1e-9
