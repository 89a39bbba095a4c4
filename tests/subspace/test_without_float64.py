"""Apple's GPUs have no float64: what is computed in it goes to the CPU first."""

from __future__ import annotations

import pytest
import torch
from fake_device import on_device
from torch import nn

from ness_cli.subspace.basis import bounded_basis, null_basis
from ness_cli.subspace.budget import Directions, nearest
from ness_cli.subspace.clip import spectral_norm
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.output_change import OutputChange
from ness_cli.subspace.spectrum import spectrum


def test_the_stand_in_refuses_what_the_device_refuses():
    x = on_device(torch.ones(2))
    assert (x.device.type, (x + 1).device.type, x.cpu().device.type) == ("mps", "mps", "cpu")
    for convert in (lambda: x.double(), lambda: x.to(torch.float64), lambda: (2 * x).double()):
        with pytest.raises(TypeError, match="float64"):
            convert()
    assert x.cpu().double().dtype == torch.float64


@pytest.fixture
def found():
    x = torch.randn(40, 8, dtype=torch.float64) * torch.logspace(-3, 1, 8, dtype=torch.float64)
    return spectrum(x.T @ x, layer="fc")


@pytest.mark.parametrize("keep_open", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_v_and_weights_are_made_on_the_cpu_with_the_same_bits(found, keep_open, bounded):
    tau = float(found.sigma[5])
    basis = (
        bounded_basis(found, tau, 1.0, keep_open=keep_open)
        if bounded
        else null_basis(found, tau, keep_open=keep_open)
    )
    previous, current = torch.randn(3, 8), torch.randn(3, 8)
    v = basis.coefficients(on_device(current) - on_device(previous))
    assert v.device.type == "cpu"
    assert torch.equal(v, basis.coefficients(current - previous))
    weight = basis.recompose(on_device(previous), on_device(v))
    assert weight.device.type == "cpu"
    assert torch.equal(weight, basis.recompose(previous, v))


def test_norms_and_changes_of_outputs():
    weight, update, rows = torch.randn(3, 8), torch.randn(3, 8), torch.randn(20, 8)
    assert spectral_norm(on_device(update)) == spectral_norm(update)
    results = []
    for place in (on_device, torch.clone):
        sums = OutputChange(place(weight), {2: place(update)}, {2: 1.0})
        sums.add(place(rows))
        results.append(sums.result())
    assert results[0] == results[1]


def test_covariances():
    linear = nn.Linear(8, 3, bias=False)
    view = LayerView("fc", linear)
    expected, accumulator = CovarianceAccumulator({"fc": view}), None
    x = torch.randn(20, 8)
    expected.add("fc", x)
    linear.weight = nn.Parameter(on_device(linear.weight))
    accumulator = CovarianceAccumulator({"fc": view})
    accumulator.add("fc", on_device(x))
    assert torch.equal(accumulator.covariances()["fc"], expected.covariances()["fc"])


def test_the_nearest_update_within_a_budget(found):
    change = torch.randn(3, 8)
    largest = float(found.sigma[-1])
    directions = Directions.of_eigenvectors(found.vectors.float(), found.sigma, largest)
    near = nearest(on_device(change), [directions], 1e-3)
    torch.testing.assert_close(near.cpu(), nearest(change, [directions], 1e-3))


def test_the_directions_of_groups(found):
    basis, covariance = found.vectors.float(), torch.eye(8, dtype=torch.float64)
    own = Directions.within(on_device(basis), covariance, 1.0)
    expected = Directions.within(basis, covariance, 1.0)
    assert torch.equal(own.squares, expected.squares)
    change = torch.randn(3, 8)
    near = nearest(on_device(change), [own], 1e-3)
    torch.testing.assert_close(near.cpu(), nearest(change, [expected], 1e-3))
