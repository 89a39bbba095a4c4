from __future__ import annotations

import pytest
import torch

from ness_cli.subspace.projection import Projector, coefficients, complement, recompose


def _basis(d: int, r: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(d + r)
    q, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    return q[:, :r].float().contiguous()


@pytest.mark.parametrize("rank", [0, 1, 3, 4, 5, 7, 8])
def test_both_ways_of_projecting_agree_with_the_dense_projector(rank):
    basis, gradient = _basis(8, rank), torch.randn(5, 8)
    dense = basis.double() @ basis.double().T
    onto, off = Projector(basis), Projector.off(basis)
    torch.testing.assert_close(
        onto(gradient).double(), gradient.double() @ dense, rtol=1e-5, atol=1e-6
    )
    rest = gradient.double() @ (torch.eye(8, dtype=torch.float64) - dense)
    torch.testing.assert_close(off(gradient).double(), rest, rtol=1e-5, atol=1e-6)
    assert min(rank, 8 - rank) == onto.columns.shape[1] == off.columns.shape[1]
    assert (onto.rank, off.rank) == (rank, 8 - rank)


@pytest.mark.parametrize("columns", [0, 1, 3, 5, 7, 8])
@pytest.mark.parametrize("num_closed", [0, 1, 3])
def test_taking_off_a_share_of_every_column_is_the_dense_product(columns, num_closed):
    basis, gradient = _basis(8, columns), torch.randn(5, 8)
    importance = torch.rand(columns, generator=torch.Generator().manual_seed(columns)) * 0.9
    importance[:num_closed] = 1
    projector = Projector.off(basis, importance)
    m = basis.double()
    expected = gradient.double() - gradient.double() @ m @ torch.diag(importance.double()) @ m.T
    torch.testing.assert_close(projector(gradient).double(), expected, rtol=1e-5, atol=1e-6)
    num_closed = min(num_closed, columns)
    assert projector.rank == 8 - num_closed
    assert projector.columns.shape[1] <= min(columns, 8 - num_closed)
    assert projector.is_idempotent == (num_closed == columns)


def test_projecting_leaves_its_argument_alone():
    for rank in (0, 2, 6, 8):
        gradient = torch.randn(3, 8)
        before = gradient.clone()
        Projector(_basis(8, rank))(gradient).zero_()
        assert torch.equal(gradient, before)


@pytest.mark.parametrize("rank", [0, 1, 5, 6])
def test_the_complement_completes_the_basis(rank):
    basis = _basis(6, rank)
    both = torch.cat([basis, complement(basis)], dim=1)
    torch.testing.assert_close(both.T @ both, torch.eye(6), rtol=1e-5, atol=1e-6)


def test_coefficients_and_recompose_are_inverse_inside_the_subspace():
    basis, previous = _basis(8, 5), torch.randn(4, 8)
    v = torch.randn(5, 4)
    current = recompose(previous, basis, v)
    torch.testing.assert_close(current, previous + (basis @ v).T)
    torch.testing.assert_close(coefficients(current - previous, basis), v, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 1, 4, 7, 8])
@pytest.mark.parametrize("num_slowed", [0, 1, 3, 8])
def test_slowed_directions_agree_with_the_dense_product(rank, num_slowed):
    basis, rows = _basis(8, rank), torch.randn(5, 8)
    scale = torch.ones(rank)
    slow = min(num_slowed, rank)
    scale[rank - slow :] = torch.rand(slow) * 0.9 + 0.05
    dense = (basis * scale.square()).double() @ basis.double().T
    projector = Projector(basis, scale)
    expected = (rows.double() @ dense).float()
    torch.testing.assert_close(projector(rows), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(projector.project_(rows.clone()), expected, rtol=1e-5, atol=1e-6)
    assert projector.columns.shape[1] == min(rank, 8 - rank + slow)
    assert projector.is_idempotent == (slow == 0)
    assert projector.is_identity == (rank == 8 and slow == 0)


def test_coefficients_and_recompose_are_inverse_with_a_scale():
    basis, previous = _basis(8, 5), torch.randn(4, 8)
    scale, v = torch.tensor([1.0, 1.0, 0.5, 0.01, 2e-4]), torch.randn(5, 4)
    current = recompose(previous, basis, v, scale)
    torch.testing.assert_close(current, previous + ((basis * scale) @ v).T)
    found = coefficients(current.double() - previous.double(), basis, scale)
    torch.testing.assert_close(
        recompose(previous, basis, found, scale), current, rtol=1e-6, atol=1e-6
    )
