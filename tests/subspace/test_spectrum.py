from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ness_cli.errors import NumericalError
from ness_cli.subspace.spectrum import spectrum
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
    vectors = found.vectors
    identity = vectors.T @ vectors
    torch.testing.assert_close(identity, torch.eye(d, dtype=torch.float64))


def test_thresholds_are_the_norms_of_the_input_matrix():
    x = _rows(20, 6, 6)
    sigma = spectrum(x.T @ x, layer="fc").sigma
    nuclear = float(torch.linalg.matrix_norm(x, "nuc"))
    frobenius = float(torch.linalg.matrix_norm(x, "fro"))
    assert threshold(sigma, rule="nuclear", eps1=0.1) == pytest.approx(0.1 * nuclear)
    assert threshold(sigma, rule="frobenius", eps1=0.1) == pytest.approx(0.1 * frobenius)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_covariance_that_is_not_finite_names_the_layer(bad):
    c = torch.eye(3, dtype=torch.float64)
    c[0, 0] = bad
    with pytest.raises(NumericalError, match="layer conv2"):
        spectrum(c, layer="conv2")
