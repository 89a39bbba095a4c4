"""The logic of conceptors, against float64 formulas on whole matrices."""

from __future__ import annotations

import pytest
import torch
from fake_device import on_device

from ness_cli.subspace.conceptor import Conceptor, both, either, fitted, overlap


def _rows(num, dim, *, rank=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rank = rank or dim
    left = torch.randn(num, rank, generator=generator, dtype=torch.float64)
    return left @ torch.randn(rank, dim, generator=generator, dtype=torch.float64)


def _moment(rows):
    return rows.T @ rows / len(rows)


def _matrix(conceptor):
    return (conceptor.columns * conceptor.values) @ conceptor.columns.T


def _of(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > 1e-9
    return Conceptor(vectors[:, kept].flip(1), values[kept].flip(0))


def _plain(rows, aperture):
    r = _moment(rows)
    return r @ torch.linalg.inv(r + aperture**-2 * torch.eye(len(r), dtype=torch.float64))


def _fit(rows, *, aperture, share=0.0):
    values, vectors = torch.linalg.eigh(_moment(rows))
    values = torch.where(values > 1e-12 * values[-1], values, 0)
    parts = rows.split(7)
    return fitted(vectors, values, lambda: parts, aperture=aperture, share=share)


def _authors_and(c, b):
    """And, as the authors take it: by singular vectors of whole matrices."""
    eye = torch.eye(len(c), dtype=torch.float64)
    null = torch.zeros_like(c)
    for x in (c, b):
        u, s, _ = torch.linalg.svd(x)
        rank = int((s > 1e-6).sum())
        null += u[:, rank:] @ u[:, rank:].T
    w, s, _ = torch.linalg.svd(null)
    w = w[:, int((s > 1e-6).sum()) :]
    inverse = torch.linalg.pinv(c, atol=1e-6) + torch.linalg.pinv(b, atol=1e-6) - eye
    found = w @ torch.linalg.inv(w.T @ inverse @ w) @ w.T
    u, s, _ = torch.linalg.svd(found)
    return u @ torch.diag(s.clamp(1e-8, 0.9999999)) @ u.T


def _authors_or(c, b):
    eye = torch.eye(len(c), dtype=torch.float64)
    return eye - _authors_and(eye - c, eye - b)


@pytest.mark.parametrize("rank", [6, 3, 1])
def test_without_growth_it_is_the_regularised_projection(rank):
    rows = _rows(20, 6, rank=rank)
    found, aperture = _fit(rows, aperture=2.0)
    assert aperture == 2
    assert len(found.values) == rank
    torch.testing.assert_close(_matrix(found), _plain(rows, 2.0))


@pytest.mark.parametrize(("share", "start"), [(0.9, 0.3), (0.95, 0.1), (0.99, 1e-3)])
def test_the_aperture_grows_by_tenths_until_enough_is_kept(share, start):
    rows = _rows(25, 5, seed=3)
    found, aperture = _fit(rows, aperture=start, share=share)
    expected = start
    while True:
        kept = torch.linalg.vector_norm(rows @ _plain(rows, expected), dim=1).sum()
        if kept / torch.linalg.vector_norm(rows, dim=1).sum() >= share:
            break
        expected *= 1.1
    assert aperture == pytest.approx(expected)
    assert expected > start
    torch.testing.assert_close(_matrix(found), _plain(rows, expected))


def test_inputs_on_a_device_without_float64_are_fitted_on_the_cpu():
    rows = _rows(20, 4).float()
    values, vectors = torch.linalg.eigh(_moment(rows.double()))
    found, own = (
        fitted(vectors, values, lambda x=x: [x], aperture=2.0, share=0.9)[0]
        for x in (rows, on_device(rows))
    )
    assert torch.equal(found.columns, own.columns)
    assert torch.equal(found.values, own.values)


def test_inputs_of_zeros_have_an_empty_conceptor():
    found, _ = _fit(torch.zeros(4, 3).double(), aperture=2.0, share=0.95)
    assert found.values.numel() == 0
    other = _of(_plain(_rows(9, 3), 2.0))
    torch.testing.assert_close(_matrix(either(found, other)), _matrix(other), atol=1e-6, rtol=0)
    assert overlap(both(found, other), found) == 0
    assert overlap(both(other, found), other) == 0


@pytest.mark.parametrize("ranks", [(6, 6), (6, 2), (2, 3), (4, 4), (1, 1), (3, 6)])
def test_and_and_or_are_the_authors(ranks):
    a, b = (_plain(_rows(30, 6, rank=r, seed=i), 1.5) for i, r in enumerate(ranks))
    joined, shared = either(_of(a), _of(b)), both(_of(a), _of(b))
    torch.testing.assert_close(_matrix(joined), _authors_or(a, b), atol=2e-7, rtol=0)
    torch.testing.assert_close(_matrix(shared), _authors_and(a, b), atol=2e-7, rtol=0)
    ratio = torch.linalg.svdvals(_authors_and(a, b)).mean() / torch.linalg.svdvals(a).mean()
    assert overlap(both(_of(a), _of(b)), _of(a)) == pytest.approx(float(ratio), abs=1e-6)


def test_or_is_the_conceptor_of_all_inputs_together():
    # Jaeger 2014: with one aperture, C or D belongs to the sum of the second moments.
    first, second = _rows(40, 5, seed=1), _rows(40, 5, seed=2)
    r = _moment(first) + _moment(second)
    expected = r @ torch.linalg.inv(r + 0.25 * torch.eye(5, dtype=torch.float64))
    found = either(_of(_plain(first, 2.0)), _of(_plain(second, 2.0)))
    torch.testing.assert_close(_matrix(found), expected)


def test_what_is_all_but_closed_stays_closed():
    basis = torch.eye(3, dtype=torch.float64)
    a = Conceptor(basis[:, :1], torch.tensor([0.9999999]).double())
    b = Conceptor(basis[:, :2], torch.tensor([0.5, 0.3]).double())
    found = _matrix(either(a, b))
    assert float(found[0, 0]) == pytest.approx(1, abs=1e-6)
    assert float(found[1, 1]) == pytest.approx(0.3)
    assert len(either(a, b).above(0.4).values) == 1
