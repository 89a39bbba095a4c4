from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ness_cli.errors import NumericalError
from ness_cli.subspace.spectrum import bounded_basis, null_basis, spectrum
from ness_cli.subspace.threshold import threshold


def _rows(n: int, d: int, rank: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(n, rank, generator=generator, dtype=torch.float64)
    return left @ torch.randn(rank, d, generator=generator, dtype=torch.float64)


@given(n=st.integers(1, 30), d=st.integers(1, 12), rank=st.integers(0, 12), seed=st.integers(0, 99))
def test_sigma_are_the_singular_values_of_the_inputs(n, d, rank, seed):
    x = _rows(n, d, rank, seed)
    found = spectrum(x.T @ x, layer="fc")
    expected = torch.zeros(d, dtype=torch.float64)
    values = torch.linalg.svdvals(x)
    expected[: len(values)] = values
    scale = max(1.0, float(expected.max()))
    # Squaring halves the digits: sigma below 1e-8 of the largest are noise.
    torch.testing.assert_close(found.sigma, expected.flip(0), rtol=1e-6, atol=1e-6 * scale)
    assert (found.sigma[1:] >= found.sigma[:-1]).all()
    assert not torch.isnan(found.sigma).any()
    identity = found.vectors.T @ found.vectors
    torch.testing.assert_close(identity, torch.eye(d, dtype=torch.float64))


def test_thresholds_are_the_norms_of_the_input_matrix():
    x = _rows(20, 6, 6)
    sigma = spectrum(x.T @ x, layer="fc").sigma
    nuclear = float(torch.linalg.matrix_norm(x, "nuc"))
    frobenius = float(torch.linalg.matrix_norm(x, "fro"))
    assert threshold(sigma, rule="nuclear", eps1=0.1) == pytest.approx(0.1 * nuclear)
    assert threshold(sigma, rule="frobenius", eps1=0.1) == pytest.approx(0.1 * frobenius)


def test_null_basis_of_rank_deficient_inputs_has_the_missing_rank():
    x = _rows(50, 10, 4)
    found = spectrum(x.T @ x, layer="fc")
    kept = null_basis(found, threshold(found.sigma, rule="nuclear", eps1=1e-6))
    assert kept.rank == 6
    assert (x.float() @ kept.basis).norm() < 1e-5 * x.norm()
    assert kept.energy < 1e-12


def test_a_single_sample_leaves_all_directions_but_one():
    x = _rows(1, 8, 1)
    found = spectrum(x.T @ x, layer="fc")
    kept = null_basis(found, threshold(found.sigma, rule="nuclear", eps1=1e-3))
    assert (kept.rank, kept.dim) == (7, 8)


def test_inputs_that_are_all_zero_leave_everything_open():
    found = spectrum(torch.zeros(5, 5, dtype=torch.float64), layer="fc")
    kept = null_basis(found, threshold(found.sigma, rule="frobenius", eps1=1e-3))
    assert (kept.rank, kept.tau, kept.energy) == (5, 0.0, 0.0)


def test_the_bound_of_equation_8_holds_for_every_input():
    x = _rows(40, 12, 12)
    found = spectrum(x.T @ x, layer="fc")
    tau = threshold(found.sigma, rule="nuclear", eps1=0.08)
    kept = null_basis(found, tau)
    assert 0 < kept.rank < 12
    v = torch.randn(kept.rank, 3, dtype=torch.float64)
    change = (x @ kept.basis.double() @ v).norm(dim=1)
    assert (change <= tau * torch.linalg.matrix_norm(v, 2) * (1 + 1e-6)).all()


def test_a_threshold_below_every_sigma_gives_an_empty_basis():
    x = _rows(40, 6, 6)
    kept = null_basis(spectrum(x.T @ x, layer="fc"), 0.0)
    assert kept.basis.shape == (6, 0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_covariance_that_is_not_finite_names_the_layer(bad):
    c = torch.eye(3, dtype=torch.float64)
    c[0, 0] = bad
    with pytest.raises(NumericalError, match="layer conv2"):
        spectrum(c, layer="conv2")


@pytest.mark.parametrize("gamma", [1.0, 1.5, 3.0])
def test_bounded_scaling_keeps_the_bound_on_every_earlier_input(gamma):
    x = torch.randn(200, 6, dtype=torch.float64) * torch.tensor([1e-6, 0.01, 0.1, 1.0, 3.0, 9.0])
    found = spectrum(x.T @ x, layer="fc")
    tau = threshold(found.sigma, rule="nuclear", eps1=0.02)
    kept = bounded_basis(found, tau, gamma)
    v = torch.randn(kept.rank, 4, dtype=torch.float64)
    change = x @ (kept.basis.double() * kept.scale.double()) @ v
    bound = tau * torch.linalg.matrix_norm(v, 2)
    # For a single input, and for all of them together: ||X U S||_2 <= tau.
    assert float(change.norm(dim=1).max()) <= float(bound) * (1 + 1e-5)
    assert float(torch.linalg.matrix_norm(change, 2)) <= float(bound) * (1 + 1e-5)
    assert bool((kept.scale[found.sigma[: kept.rank] <= tau] == 1).all())
    assert bool((kept.scale >= 1e-4).all())
    assert bool((kept.scale.diff() <= 0).all())


def test_bounded_scaling_of_inputs_without_any_signal_opens_everything():
    found = spectrum(torch.zeros(5, 5), layer="fc")
    kept = bounded_basis(found, threshold(found.sigma, rule="nuclear", eps1=1e-3), 1.0)
    assert kept.rank == 5
    assert bool((kept.scale == 1).all())
    assert kept.energy == 0.0


def test_a_direction_that_would_be_slowed_to_a_halt_is_closed():
    found = spectrum(torch.diag(torch.tensor([1.0, 1e4, 1e10]).double()), layer="fc")
    kept = bounded_basis(found, 1.0, 1.0)
    assert kept.rank == 2
    assert kept.scale.tolist() == pytest.approx([1.0, 0.01])
