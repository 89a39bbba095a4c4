from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from ness_cli.subspace.budget import (
    Directions,
    multiplier,
    nearest,
    output_energy,
    relative_change,
    shrink_factors,
)
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.spectrum import spectrum


def _inputs(n, d, rank=None):
    x = torch.randn(n, rank or d, dtype=torch.float64)
    return x if rank is None else x @ torch.randn(rank, d, dtype=torch.float64)


def _directions(covariance):
    found = spectrum(covariance, layer="x")
    return [Directions.of_eigenvectors(found.vectors, found.sigma, float(found.sigma[-1]))]


@pytest.mark.parametrize(("n", "rank"), [(40, None), (40, 3), (1, None), (0, None)])
def test_rho_from_the_covariance_is_the_change_measured_on_the_inputs(n, rank):
    x, w, dw = _inputs(n, 6, rank), torch.randn(4, 6).double(), torch.randn(4, 6).double()
    measured = math.sqrt((x @ dw.T).square().sum() / (x @ w.T).square().sum()) if n else 0.0
    assert relative_change(dw, w, x.T @ x) == pytest.approx(measured, rel=1e-9)


def test_outputs_that_were_zero_and_change_have_changed_without_bound():
    x, dw = _inputs(5, 3), torch.ones(2, 3).double()
    assert relative_change(dw, torch.zeros(2, 3), x.T @ x) == math.inf
    assert relative_change(torch.zeros(2, 3), torch.zeros(2, 3), x.T @ x) == 0.0


def test_groups_see_their_own_inputs_only():
    conv = nn.Conv2d(4, 6, 3, groups=2, bias=False).double()
    changed = nn.Conv2d(4, 6, 3, groups=2, bias=False).double()
    x = torch.randn(5, 4, 7, 7, dtype=torch.float64)
    view = LayerView("conv", conv)
    patches = nn.functional.unfold(x, 3).transpose(1, 2).reshape(-1, 2, 18)
    covariance = torch.stack([patches[:, g].T @ patches[:, g] for g in range(2)])
    dw = changed.weight.detach().flatten(1) - view.matrix()
    with torch.no_grad():
        measured = ((changed(x) - conv(x)).square().sum() / conv(x).square().sum()).sqrt()
    assert relative_change(dw, view.matrix(), covariance) == pytest.approx(float(measured), 1e-9)


def test_rho_of_a_layer_is_measured_on_the_rows_its_covariance_summed():
    conv = nn.Conv2d(3, 5, 3, padding=1, stride=2, bias=True)
    view = LayerView("conv", conv, augment_bias=True)
    x = torch.randn(6, 3, 8, 8)
    accumulator = CovarianceAccumulator({"conv": view})
    accumulator.add("conv", x)
    rows, dw = view.rows(x).double(), torch.randn(5, 28).double()
    measured = (rows @ dw.T).square().sum() / (rows @ view.matrix().double().T).square().sum()
    rho = relative_change(dw, view.matrix(), accumulator.covariances()["conv"])
    assert rho == pytest.approx(math.sqrt(measured), rel=1e-9)


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.9])
def test_nearest_is_the_point_that_a_general_solver_finds(fraction):
    x, dw = _inputs(30, 3) * torch.tensor([1.0, 3.0, 0.2]), torch.randn(2, 3).double()
    c = x.T @ x
    allowed = fraction * output_energy(dw, c)
    found = nearest(dw, _directions(c), allowed)
    goal = allowed * (1 - 1e-6) ** 2

    def room(flat):
        m = torch.from_numpy(flat).view(2, 3)
        return goal - float(torch.sum((m @ c) * m))

    solved = minimize(
        lambda flat: float((torch.from_numpy(flat).view(2, 3) - dw).square().sum()),
        (0.1 * dw).flatten().numpy(),
        constraints={"type": "ineq", "fun": room},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    torch.testing.assert_close(found, torch.from_numpy(solved.x).view(2, 3), rtol=0, atol=2e-6)
    assert output_energy(found, c) == pytest.approx(goal, rel=1e-9)


def test_nearest_of_groups_is_one_point_of_the_joint_ellipsoid():
    x = [_inputs(20, 4), 5 * _inputs(20, 4, rank=2)]
    c = torch.stack([g.T @ g for g in x])
    dw = torch.randn(6, 4).double()
    allowed = 0.2 * output_energy(dw, c)
    eye = torch.eye(4, dtype=torch.float64)
    largest = float(torch.linalg.eigvalsh(c.sum(dim=0))[-1].sqrt())
    found = nearest(dw, [Directions.within(eye, own, largest) for own in c], allowed)
    assert output_energy(found, c) == pytest.approx(allowed, rel=1e-5)
    # Stationarity: (dW - found) = nu found C with one nu for all groups.
    off = [(dw - found)[3 * g : 3 * g + 3] for g in range(2)]
    pull = [found[3 * g : 3 * g + 3] @ c[g] for g in range(2)]
    nu = [float((o * p).sum() / p.square().sum()) for o, p in zip(off, pull, strict=True)]
    assert nu[0] == pytest.approx(nu[1], rel=1e-6)
    for o, p in zip(off, pull, strict=True):
        torch.testing.assert_close(o, nu[0] * p, rtol=1e-6, atol=1e-9)


def test_a_cut_basis_gives_the_nearest_point_among_updates_inside_it():
    x = _inputs(50, 5)
    found = spectrum(x.T @ x, layer="x")
    u = found.vectors[:, :3]
    dw = torch.randn(2, 3).double() @ u.T
    allowed = 0.1 * output_energy(dw, x.T @ x)
    own = [Directions.of_eigenvectors(u, found.sigma[:3], float(found.sigma[-1]))]
    inside = nearest(dw, own, allowed)
    torch.testing.assert_close(inside @ u @ u.T, inside, rtol=0, atol=1e-12)
    torch.testing.assert_close(inside, nearest(dw, _directions(x.T @ x), allowed))


def test_what_is_rounding_beside_the_largest_input_stays_open_also_in_a_cut_basis():
    sigma = torch.tensor([0.0, 1e-9, 2e-9, 1e-6, 1.0], dtype=torch.float64)
    u = torch.eye(5, dtype=torch.float64)[:, :4]
    for own in (
        Directions.of_eigenvectors(u, sigma[:4], largest=1.0),
        Directions.within(u, sigma.square().diag(), largest=1.0),
    ):
        near = nearest(torch.ones(2, 4).double() @ u.T, [own], 0.0)
        expected = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
        torch.testing.assert_close(near, expected.expand(2, 5))


def test_within_the_limit_not_a_bit_changes():
    x, dw = _inputs(9, 4), torch.randn(3, 4)
    assert nearest(dw, _directions(x.T @ x), output_energy(dw, x.T @ x) * 1.001) is dw


def test_without_any_budget_updates_keep_to_the_null_space():
    x, dw = _inputs(30, 6, rank=2), torch.randn(3, 6).double()
    found = nearest(dw, _directions(x.T @ x), 0.0)
    assert float((x @ found.T).abs().max()) < 1e-12 * float(x.abs().max() * dw.norm())
    # The null space itself is untouched: what is taken off lies in the span of the inputs.
    taken = dw - found
    onto = torch.linalg.lstsq(x.T, taken.T, driver="gelsd").solution
    torch.testing.assert_close(x.T @ onto, taken.T, rtol=0, atol=1e-10)


@pytest.mark.parametrize("allowed", [0.0, 1e-9, 1e-3])
def test_directions_that_inputs_do_not_use_are_untouched_whatever_the_limit(allowed):
    x = torch.zeros(8, 5, dtype=torch.float64)
    x[:, 0] = torch.arange(8)
    dw = torch.randn(2, 5).double()
    found = nearest(dw, _directions(x.T @ x), allowed)
    torch.testing.assert_close(found[:, 1:], dw[:, 1:], rtol=0, atol=1e-15)


@pytest.mark.parametrize("decades", [2, 8, 15])
def test_the_multiplier_solves_its_equation_over_many_decades(decades):
    s = torch.logspace(0, decades, 40, dtype=torch.float64)
    q = torch.rand(40, dtype=torch.float64) / s.flip(0)
    for fraction in (1 - 1e-5, 0.5, 1e-3, 1e-8):
        allowed = fraction * float((s * q).sum())
        nu = multiplier(s, q, allowed)
        left = float((s * q * shrink_factors(s, nu).square()).sum())
        assert left == pytest.approx(allowed * (1 - 1e-6) ** 2, rel=1e-6)
        assert left <= allowed


def test_applying_the_budget_twice_is_applying_it_once():
    x, dw = _inputs(30, 6), torch.randn(3, 6).double()
    own, allowed = _directions(x.T @ x), 0.05 * output_energy(dw, x.T @ x)
    once = nearest(dw, own, allowed)
    assert nearest(once, own, allowed) is once


def test_rounding_to_float32_stays_within_the_budget():
    x = _inputs(200, 32)
    w, dw = torch.randn(16, 32), torch.randn(16, 32)
    allowed = 0.04**2 * output_energy(w, x.T @ x)
    kept = nearest(dw, _directions(x.T @ x), allowed).float()
    assert 0.0399 < relative_change(kept, w, x.T @ x) <= 0.04
