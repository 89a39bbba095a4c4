from __future__ import annotations

import pytest
import torch

from ness_cli.subspace.projection import Projector


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
    assert (onto.rank, off.rank) == (rank, 8 - rank)


@pytest.mark.parametrize("columns", [0, 1, 3, 5, 7, 8])
@pytest.mark.parametrize("num_closed", [0, 1, 3, 8])
@pytest.mark.parametrize("has_rest", [False, True])
def test_taking_off_a_share_of_every_column_is_the_dense_product(columns, num_closed, has_rest):
    whole, gradient = _basis(8, 8), torch.randn(5, 8)
    basis, rest = whole[:, :columns], whole[:, columns:] if has_rest else None
    importance = torch.rand(columns, generator=torch.Generator().manual_seed(columns)) * 0.9
    importance[:num_closed] = 1
    projector = Projector.off(basis, importance, rest)
    m = basis.double()
    expected = gradient.double() - gradient.double() @ m @ torch.diag(importance.double()) @ m.T
    torch.testing.assert_close(projector(gradient).double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        projector.project_(gradient.clone()).double(), expected, rtol=1e-5, atol=1e-6
    )
    num_closed = min(num_closed, columns)
    assert projector.rank == 8 - num_closed
    fewest = min(columns, 8 - num_closed) if has_rest else columns
    assert projector.columns.shape[1] == fewest
    assert projector.is_idempotent == (num_closed == columns)
    assert projector.is_identity == (columns == 0)


def test_projecting_leaves_its_argument_alone():
    for rank in (0, 2, 6, 8):
        for projector in (Projector(_basis(8, rank)), Projector.off(_basis(8, rank))):
            gradient = torch.randn(3, 8)
            before = gradient.clone()
            projector(gradient).zero_()
            assert torch.equal(gradient, before)
