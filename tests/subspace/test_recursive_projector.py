"""P against the closed form of a recursion, and against the authors' update row by row."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ness_cli.subspace.recursive_projector import close_, published_decays


def _rows(num_rows, dim, rank, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(num_rows, rank, generator=generator, dtype=torch.float64)
    return left @ torch.randn(rank, dim, generator=generator, dtype=torch.float64)


def _published(p, rows, alpha):
    """The authors' update, one row after another."""
    for row in rows:
        k = p @ row
        p = p - torch.outer(k, k) / (alpha + row @ k)
    return p


@pytest.mark.parametrize("alpha", [1.0, 1e-2, 1e-5])
@pytest.mark.parametrize(("num_rows", "rank"), [(1, 1), (4, 4), (5, 2), (30, 6), (30, 3)])
def test_p_is_the_inverse_of_i_plus_all_rows_by_alpha(alpha, num_rows, rank):
    """alpha (X^T X + alpha I)^-1; rows of few dimensions, fewer and more than the layer is wide."""
    rows = _rows(num_rows, 6, rank)
    p = torch.eye(6, dtype=torch.float64)
    for part in rows.split(7):
        close_(p, part, alpha)
    # In the eigenvectors of X^T X, whose inverse is not computed: it may be hardly there.
    energies, vectors = torch.linalg.eigh(rows.T @ rows)
    expected = (vectors * (alpha / (energies.clamp(min=0) + alpha))) @ vectors.T
    torch.testing.assert_close(p, expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(p, _published(torch.eye(6).double(), rows, alpha), atol=1e-7, rtol=0)
    torch.testing.assert_close(p, p.T, rtol=0, atol=1e-12)


def test_every_alpha_weighs_its_own_rows():
    p, inverse = torch.eye(5, dtype=torch.float64), torch.eye(5, dtype=torch.float64)
    for number, alpha in enumerate((1.0, 0.1, 0.01)):
        rows = _rows(3, 5, 3, seed=number)
        close_(p, rows, alpha)
        inverse += rows.T @ rows / alpha
    torch.testing.assert_close(p @ inverse, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-9)


def test_what_is_seen_again_and_again_is_closed_and_the_rest_stays_open():
    p, row = torch.eye(4, dtype=torch.float64), torch.tensor([[1.0, 2.0, 0.0, 0.0]]).double()
    for _ in range(10):
        close_(p, row, 1e-3)
    assert float((p @ row.T).norm()) < 1e-3
    across = torch.tensor([2.0, -1.0, 0.5, 1.0]).double()
    torch.testing.assert_close(p @ across, across)
    assert float(torch.linalg.eigvalsh(p).min()) > -1e-12


def test_rows_of_zeros_and_rows_that_are_not_finite_raise_nothing():
    p = torch.eye(3, dtype=torch.float64)
    close_(p, torch.zeros(2, 3).double(), 1.0)
    assert torch.equal(p, torch.eye(3, dtype=torch.float64))
    close_(p, torch.full((1, 3), torch.nan).double(), 1.0)
    assert p.isnan().any()


def test_alpha_falls_by_the_kind_of_the_layer_as_published():
    conv, linear = nn.Conv2d(1, 1, 2), nn.Linear(1, 1)
    assert published_decays([conv, conv, linear, linear, linear]) == (5, 5, 4, 2, 2)
    assert published_decays([conv, conv]) == (5, 5)
    assert published_decays([linear, linear]) == (0, 0)
    assert published_decays([conv, linear, linear], has_shared_head=True) == (5, 4, 1)
    assert published_decays([linear, linear], has_shared_head=True) == (0, 0)
