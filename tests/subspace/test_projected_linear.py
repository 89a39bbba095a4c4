"""Projected rows give the projected gradient, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.projected_linear import ProjectedLinear
from ness_cli.subspace.projection import Projector


def _layer(*, bias=False, augment=False, out=12):
    module = nn.Linear(7, out, bias=bias).double()
    return module, LayerView("fc", module, augment_bias=augment)


def _projector(dim, rank):
    basis, _ = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64))
    return Projector(basis[:, :rank])


@pytest.mark.parametrize("rank", [2, 5])
@pytest.mark.parametrize(("bias", "augment"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("shape", [(4, 7), (2, 3, 7), (1, 7)])
def test_the_gradient_is_that_of_the_plain_layer_projected(rank, bias, augment, shape):
    module, view = _layer(bias=bias, augment=augment)
    projector = _projector(view.dim, rank)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    plain = module(x)
    plain.square().sum().backward()
    expected, expected_x = projector(view.gradient()), x.grad.clone()
    expected_bias = module.bias.grad.clone() if bias and not augment else None
    x.grad = None
    module.zero_grad()
    linear = ProjectedLinear(view, projector, batch_size=shape[0])
    y = module(x)
    y.square().sum().backward()
    linear.detach()
    assert linear.by_rows is True
    assert torch.equal(y, plain)
    torch.testing.assert_close(view.gradient(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(x.grad, expected_x, rtol=1e-12, atol=1e-12)
    if expected_bias is not None:
        torch.testing.assert_close(module.bias.grad, expected_bias)


def test_a_narrow_layer_keeps_its_plain_gradient():
    module, view = _layer(out=3)
    linear = ProjectedLinear(view, _projector(7, 2), batch_size=8)
    x = torch.randn(2, 7, dtype=torch.float64)
    module(x).square().sum().backward()
    linear.detach()
    found = module.weight.grad.clone()
    module.zero_grad()
    module(x).square().sum().backward()
    assert linear.by_rows is False
    assert torch.equal(module.weight.grad, found)


def test_the_size_of_a_full_batch_decides_not_that_of_the_batch_at_hand():
    for first, size in ((3, 20), (20, 20)):
        module, view = _layer()
        linear = ProjectedLinear(view, _projector(7, 2), batch_size=size)
        module(torch.randn(first, 7, dtype=torch.float64))
        assert linear.by_rows is False


def test_a_detached_layer_is_as_it_was():
    module, view = _layer()
    before = set(vars(module))
    linear = ProjectedLinear(view, _projector(7, 2), batch_size=2)
    linear.detach()
    assert set(vars(module)) == before
    assert list(module.state_dict()) == ["weight"]


@pytest.mark.parametrize("rank", [0, 2, 5, 7])
def test_projecting_in_place_is_projecting(rank):
    projector = _projector(7, rank)
    rows = torch.randn(4, 7, dtype=torch.float64)
    expected = projector(rows)
    assert torch.allclose(projector.project_(rows.clone()), expected, rtol=1e-12, atol=1e-12)
    found = projector.project_(rows)
    assert found.data_ptr() == rows.data_ptr()
