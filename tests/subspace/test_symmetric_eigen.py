from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ness_cli.subspace import symmetric_eigen
from ness_cli.subspace.symmetric_eigen import SymmetricEigen

EPS = np.finfo(np.float64).eps


def _covariance(d, rows, unused=0, decades=4.0, seed=0):
    """C of inputs whose directions differ by so many decades, some inputs always zero."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    x = rng.standard_normal((rows, d)) * np.logspace(-decades, 1, d) @ turn
    x[:, rng.permutation(d)[:unused]] = 0
    return x.T @ x


@given(
    d=st.integers(1, 24),
    rows=st.integers(0, 60),
    unused=st.integers(0, 24),
    start=st.floats(0, 1),
    stop=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_it_is_the_full_decomposition_as_far_as_it_is_asked_for(d, rows, unused, start, stop, seed):
    c = _covariance(d, rows, min(unused, d), seed=seed)
    found, expected = SymmetricEigen(c), np.linalg.eigvalsh(c)
    largest = expected[-1]
    # What two backward stable decompositions may differ by.
    bound = 50 * d * EPS * largest
    assert np.abs(found.values - expected).max() <= bound
    first, last = sorted((round(start * d), round(stop * d)))
    vectors = found.vectors(first, last)
    assert vectors.shape == (d, last - first)
    residual = c @ vectors - vectors * found.values[first:last]
    assert np.abs(residual).max(initial=0) <= bound
    identity = vectors.T @ vectors
    assert np.abs(identity - np.eye(last - first)).max(initial=0) <= 1e-10


@pytest.mark.parametrize(("d", "rows", "unused"), [(60, 10, 0), (60, 400, 40), (60, 8, 30)])
def test_what_inputs_never_use_is_an_exact_null_space(d, rows, unused):
    c = _covariance(d, rows, unused)
    found = SymmetricEigen(c)
    rank = min(rows, d - unused)
    assert np.count_nonzero(found.values) == rank
    assert np.array_equal(found.values[: d - rank], np.zeros(d - rank))
    null = found.vectors(0, d - rank)
    assert np.abs(c @ null).max() <= 1e-12 * np.abs(c).max()


@pytest.mark.parametrize("rows", [20, 400])  # of low and of full rank
def test_small_singular_values_are_as_good_as_those_of_a_full_decomposition(rows):
    """Nothing above the rounding of C itself is lost to the shorter ways."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((rows, 50)))[0]
    x = np.logspace(-6, 0, rows)[:, None] * turn if rows < 50 else turn * np.logspace(-6, 0, 50)
    c = x.T @ x
    found, expected = SymmetricEigen(c).values, np.linalg.eigvalsh(c)
    sure = expected > 1e3 * 50 * EPS * expected[-1]
    assert expected[sure].min() < 1e-8 * expected[-1]
    np.testing.assert_allclose(found[sure], expected[sure], rtol=1e-2)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_entries_of_any_size_are_taken(scale):
    c = _covariance(9, 40) * scale
    found = SymmetricEigen(c)
    np.testing.assert_allclose(found.values / scale, np.linalg.eigvalsh(c / scale), atol=1e-10)


def test_a_worker_serves_what_it_is_asked_for_and_ends_with_the_pipe(monkeypatch):
    c = _covariance(12, 30)
    source, sink = io.BytesIO(), io.BytesIO()
    for array in (c, np.array([[3.0, 7.0]]), np.array([[0.0, 12.0]])):
        symmetric_eigen.write(source, array)
    source.seek(0)
    for name, stream in (("stdin", source), ("stdout", sink)):
        monkeypatch.setattr(f"sys.{name}", type("Stream", (), {"buffer": stream})())
    monkeypatch.setattr("sys.stderr", io.StringIO())
    symmetric_eigen.main()
    sink.seek(0)
    found = SymmetricEigen(c)
    for expected in (found.values[None], found.vectors(3, 7), found.vectors(0, 12)):
        assert np.array_equal(symmetric_eigen.read(sink), expected)
    with pytest.raises(EOFError):
        symmetric_eigen.read(sink)
