"""Mixing of shared directions, against float64 formulas written here."""

from __future__ import annotations

import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from ness_cli.errors import NumericalError
from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.mixing import (
    Mixing,
    attach,
    detach,
    mixed,
    mixing,
    shared_directions,
)


def _orthonormal(dim, num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, num, generator=generator, dtype=torch.float64))[0]


def _random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _covariance(dim, num_rows, seed):
    rows = _random(num_rows, dim, seed=seed)
    return rows.T @ rows


def _shared(old, new, num, *, by):
    found = shared_directions(
        {"fc": old}, {"fc": new}, num, by=by, advance=lambda _: None, device=torch.device("cpu")
    )
    return found["fc"]


def test_gradients_are_those_of_finite_differences():
    w = _random(3, 2, 2, 2).requires_grad_()
    m = _random(4, 4, seed=2).requires_grad_()
    q = _orthonormal(8, 4)
    assert torch.autograd.gradcheck(lambda w, m: mixed(w, q, m), (w, m))


def test_detached_the_weight_gets_no_gradient_of_what_is_subtracted():
    w, m, q = _random(5, 8).requires_grad_(), _random(4, 4, seed=2), _orthonormal(8, 4)
    g = _random(5, 8, seed=3)
    y = mixed(w, q, m, detaches=True)
    torch.testing.assert_close(y, mixed(w, q, m), rtol=1e-14, atol=1e-14)
    (found,) = torch.autograd.grad(y, w, g)
    torch.testing.assert_close(found, g + g @ q @ m.T @ q.T)


@pytest.mark.parametrize(
    "layer", [nn.Linear(8, 5), nn.Conv2d(2, 5, 2), nn.Conv2d(4, 6, 2, groups=2)]
)
@pytest.mark.parametrize("augment_bias", [False, True])
def test_effective_weights_put_out_what_the_matrix_makes_of_mixed_rows(layer, augment_bias):
    layer = layer.double()
    view = LayerView("layer", layer, augment_bias=augment_bias)
    own = Mixing(_orthonormal(8, 3), _random(3, 3))
    x = _random(7, 8) if isinstance(layer, nn.Linear) else _random(7, 2 * layer.groups, 3, 3)
    rows = view.rows(x) @ own.input_map(view.dim).T
    if augment_bias:
        assert torch.equal(rows[:, -1], torch.ones(len(rows), dtype=torch.float64))
    plain, bias = layer.weight.detach().clone(), layer.bias if not augment_bias else 0
    groups = view.groups
    parts = zip(view.matrix().chunk(groups), rows.view(-1, groups, view.dim).unbind(1), strict=True)
    expected = torch.cat([part @ matrix.T for matrix, part in parts], dim=1) + bias
    with mixing({"layer": view}, {"layer": own}):
        y = layer(x)
    if y.dim() == 4:
        y = y.flatten(2).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(y, expected)
    assert torch.equal(layer.weight, plain)
    attach(view, own.directions, own.matrix)
    found = layer(x)
    assert torch.equal(view.weight, plain)
    detach(view)
    torch.testing.assert_close(found.flatten(2).mT.flatten(0, 1) if x.dim() == 4 else found, y)
    assert not view.is_parametrised
    assert set(layer.state_dict()) == {"weight", "bias"}
    detach(view)  # twice is once
    assert not torch.equal(layer(x), found)


@pytest.mark.parametrize("shape", [(7, 8), (2, 3, 8), (1, 8)])
@pytest.mark.parametrize("detaches", [False, True])
def test_gradients_of_a_linear_layer_are_those_of_the_effective_weight(shape, detaches):
    layer = nn.Linear(8, 5).double()
    w, bias = layer.weight.detach().clone().requires_grad_(), layer.bias.detach()
    q, m = _orthonormal(8, 3), _random(3, 3).requires_grad_()
    x = _random(*shape, seed=4).requires_grad_()
    y = nn.functional.linear(x, mixed(w, q, m, detaches=detaches), bias)
    expected = torch.autograd.grad(y.square().sum(), (x, w, m))
    own = attach(LayerView("layer", layer), q, m.detach(), detaches=detaches)
    found = layer(x)
    torch.testing.assert_close(found, y)
    weight = LayerView("layer", layer).weight
    gradients = torch.autograd.grad(found.square().sum(), (x, weight, own.matrix))
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("new_rows", [30, 5, 1])
def test_directions_of_the_product_are_its_leading_eigenvectors(new_rows):
    old, new = _covariance(8, 20, 3), _covariance(8, new_rows, 4)
    root = torch.from_numpy(sqrtm((new + 1e-13 * torch.eye(8)).numpy()).real)
    values, vectors = torch.linalg.eigh(root @ old @ root)
    num = min(3, new_rows)
    q = _shared(old, new, 3, by="product").double()
    assert q.shape == (8, num)
    torch.testing.assert_close(q.T @ q, torch.eye(num).double(), atol=1e-6, rtol=0)
    expected = vectors[:, -num:]
    assert values[-num] > 1e-6
    torch.testing.assert_close(q @ q.T, expected @ expected.T, atol=1e-5, rtol=0)
    assert torch.linalg.vector_norm(q[:, 0] - vectors[:, -1] * (q[:, 0] @ vectors[:, -1])) < 1e-5


def test_restricted_directions_are_those_of_old_inputs_within_what_new_ones_use_most():
    basis = _orthonormal(6, 6)
    new = basis @ torch.diag(torch.tensor([100.0, 90, 80, 1e-3, 1e-3, 0]).double()) @ basis.T
    old = basis @ torch.diag(torch.tensor([1.0, 3, 2, 50, 50, 50]).double()) @ basis.T
    q = _shared(old, new, 2, by="restricted").double()
    expected = basis[:, 1:3]
    torch.testing.assert_close(q @ q.T, expected @ expected.T, atol=1e-5, rtol=0)
    assert abs(q[:, 0] @ basis[:, 1]) > 1 - 1e-6


@pytest.mark.parametrize("by", ["product", "restricted"])
def test_no_more_directions_are_mixed_than_both_use(by):
    basis = _orthonormal(6, 6)
    new, old = basis[:, :3] @ basis[:, :3].T, basis[:, 2:] @ basis[:, 2:].T
    q = _shared(old, new, 20, by=by).double()
    assert q.shape == (6, 1)
    assert abs(q[:, 0] @ basis[:, 2]) > 1 - 1e-6
    zero = torch.zeros(6, 6).double()
    assert _shared(old, zero, 4, by=by).shape == (6, 0)
    assert _shared(zero, new, 4, by=by).shape == (6, 0)


def test_inputs_that_are_not_finite_are_refused_by_layer():
    bad = torch.full((3, 3), torch.nan).double()
    with pytest.raises(NumericalError, match="layer fc"):
        _shared(torch.eye(3).double(), bad, 2, by="product")


def test_an_error_while_weights_are_mixed_comes_out_alone_and_leaves_the_plain_ones():
    layer = nn.Linear(8, 5).double()
    plain = layer.weight.detach().clone()
    own = Mixing(_orthonormal(8, 3), _random(3, 3))
    with pytest.raises(KeyError) as error, mixing({"a": LayerView("a", layer)}, {"a": own}):
        raise KeyError("of the caller")
    assert error.value.__context__ is None
    assert torch.equal(layer.weight, plain)
