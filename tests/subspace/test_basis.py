from __future__ import annotations

import pytest
import torch

from ness_cli.subspace.basis import (
    ClosedBasis,
    OpenBasis,
    bounded_basis,
    conceptor_basis,
    null_basis,
    open_basis,
    read_bases,
)
from ness_cli.subspace.clip import clip_spectral_norm, spectral_norm
from ness_cli.subspace.spectrum import Spectrum, spectrum
from ness_cli.subspace.threshold import threshold

CPU = torch.device("cpu")


def _rows(n: int, d: int, rank: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(n, rank, generator=generator, dtype=torch.float64)
    return left @ torch.randn(rank, d, generator=generator, dtype=torch.float64)


def _spectrum(sigma: list[float]) -> Spectrum:
    """Random directions with these singular values."""
    d, generator = len(sigma), torch.Generator().manual_seed(len(sigma))
    q = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    return Spectrum(torch.tensor(sigma, dtype=torch.float64), lambda a, b: q[:, a:b])


def _scale(found: Spectrum, basis) -> torch.Tensor:
    """S, ``[d, d]`` float64, from the definition."""
    vectors, scales = found.vectors, basis.scales.double()
    return vectors @ torch.diag(scales) @ vectors.T


SPECTRA = {
    "hard, thin open side": ([0.1, 0.5, 2.0, 3.0, 9.0, 9.5], None, OpenBasis),
    "hard, thin closed side": ([0.0, 0.1, 0.5, 1.0, 3.0, 9.0], None, ClosedBasis),
    "hard, both sides as thin": ([0.0, 0.1, 1.0, 2.0, 3.0, 9.0], None, OpenBasis),
    "hard, nothing open": ([2.0, 2.5, 3.0], None, OpenBasis),
    "hard, everything open": ([0.0, 0.5, 0.9], None, ClosedBasis),
    "bounded": ([0.0, 0.1, 0.5, 1.0, 3.0, 900.0], 1.0, ClosedBasis),
    "bounded, some closed": ([0.0, 0.1, 0.5, 3.0, 1e5, 1e6], 1.0, ClosedBasis),
    "bounded, most closed": ([0.5, 3.0, 1e5, 1e6, 1e7, 1e8], 1.0, OpenBasis),
    "bounded, all slowed": ([2.0, 3.0, 4.0, 9.0], 2.0, OpenBasis),
}


@pytest.fixture(params=SPECTRA.values(), ids=SPECTRA)
def case(request):
    """Directions, their basis by the thinner side, and by the open side; tau is 1."""
    sigma, gamma, kind = request.param
    found = _spectrum(sigma)
    if gamma is None:
        thin, whole = (null_basis(found, 1.0, keep_open=keep) for keep in (False, True))
    else:
        thin, whole = (bounded_basis(found, 1.0, gamma, keep_open=keep) for keep in (False, True))
    assert type(thin) is kind
    assert type(whole) is OpenBasis
    return found, thin, whole


def test_the_thinner_side_is_stored(case):
    _, thin, whole = case
    not_open, not_closed = (int((whole.scales < 1).sum()), int((whole.scales > 0).sum()))
    assert thin.columns.shape[1] == min(not_open, not_closed)
    assert whole.columns.shape[1] == not_closed == thin.rank == whole.rank
    assert torch.equal(thin.scales, whole.scales)
    assert thin.energy == pytest.approx(whole.energy)


def test_both_sides_project_a_gradient_as_the_definition_does(case):
    found, thin, whole = case
    gradient = torch.randn(4, thin.dim)
    expected = gradient.double() @ _scale(found, thin) @ _scale(found, thin)
    for basis in (thin, whole):
        projected = basis.projector(CPU)(gradient)
        torch.testing.assert_close(projected.double(), expected, rtol=1e-5, atol=1e-5)


def test_both_sides_take_the_same_v_out_of_a_change_and_put_it_back(case):
    found, thin, whole = case
    scale, previous = _scale(found, thin), torch.randn(4, thin.dim)
    wanted = torch.randn(thin.dim, 4, dtype=torch.float64)
    change = (scale @ wanted).T + torch.randn(4, thin.dim, dtype=torch.float64) @ (
        torch.eye(thin.dim, dtype=torch.float64) - torch.linalg.pinv(scale) @ scale
    )  # and something in the closed directions, which no V can say
    vectors = found.between(0, thin.rank)
    inside = vectors @ vectors.T @ wanted
    expected = previous.double() + (scale @ wanted).T
    for basis in (thin, whole):
        v = basis.coefficients(change)
        assert v.dtype == torch.float32
        full = whole.columns.double() @ v.double() if type(basis) is OpenBasis else v.double()
        torch.testing.assert_close(full, inside, rtol=1e-4, atol=2e-5)
        assert spectral_norm(v) == pytest.approx(spectral_norm(inside), rel=1e-5, abs=1e-7)
        found_again = basis.recompose(previous, v)
        assert found_again.dtype == torch.float32
        torch.testing.assert_close(found_again.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_clipped_v_is_the_same_on_both_sides_and_stays_out_of_closed_directions(case):
    found, thin, whole = case
    change = (_scale(found, thin) @ torch.randn(thin.dim, 4, dtype=torch.float64)).T
    limit = 0.5 * max(spectral_norm(whole.coefficients(change)), 1e-3)
    mine, other = (clip_spectral_norm(b.coefficients(change), limit) for b in (thin, whole))
    assert spectral_norm(mine) <= limit
    previous = torch.zeros(4, thin.dim)
    torch.testing.assert_close(
        thin.recompose(previous, mine), whole.recompose(previous, other), rtol=1e-4, atol=1e-5
    )
    closed = found.between(thin.rank, thin.dim)
    assert (thin.recompose(previous, mine).double() @ closed).norm() <= 1e-5


def test_a_file_has_what_is_needed_to_read_the_basis_back(case):
    for basis in case[1:]:
        tensors = {f"a.b.{key}": value for key, value in basis.tensors().items()}
        (name, again), *none = read_bases(tensors).items()
        assert (name, type(again), none) == ("a.b", type(basis), [])
        assert torch.equal(again.columns, basis.columns)
        assert torch.equal(again.scales, basis.scales)
        assert torch.equal(again.sigma, basis.sigma)
        assert (again.tau, again.rank) == (basis.tau, basis.rank)


def test_the_documented_formulas_give_the_bits(case):
    for basis in case[1:]:
        previous = torch.randn(3, basis.dim)
        tensors, v = basis.tensors(), basis.coefficients(torch.randn(3, basis.dim))
        if "U" in tensors:
            u = tensors["U"].double() * tensors.get("scale", torch.ones(1)).double()
            update = u @ v.double()
        else:
            q, s = tensors["Q"].double(), tensors.get("scale", torch.ones(0)).double()
            update = v.double() - q @ ((1 - s)[:, None] * (q.T @ v.double()))
        expected = (previous.double() + update.T).float()
        assert torch.equal(basis.recompose(previous, v), expected)


def test_null_basis_of_rank_deficient_inputs_has_the_missing_rank():
    x = _rows(50, 10, 4)
    found = spectrum(x.T @ x, layer="fc")
    kept = null_basis(found, threshold(found.sigma, rule="nuclear", eps1=1e-6))
    assert kept.rank == 6
    assert kept.projector(CPU)(x.float()).norm() < 1e-5 * x.norm()
    assert kept.energy < 1e-12


def test_a_single_sample_leaves_all_directions_but_one():
    x = _rows(1, 8, 1)
    found = spectrum(x.T @ x, layer="fc")
    kept = null_basis(found, threshold(found.sigma, rule="nuclear", eps1=1e-3))
    assert (kept.rank, kept.dim) == (7, 8)
    assert kept.columns.shape == (8, 1)


def test_inputs_that_are_all_zero_leave_everything_open():
    found = spectrum(torch.zeros(5, 5, dtype=torch.float64), layer="fc")
    kept = null_basis(found, threshold(found.sigma, rule="frobenius", eps1=1e-3))
    assert (kept.rank, kept.tau, kept.energy) == (5, 0.0, 0.0)
    assert kept.projector(CPU).is_identity


@pytest.mark.parametrize("eps1", [0.03, 0.08, 0.15])
@pytest.mark.parametrize("gamma", [None, 1.0, 1.5, 3.0])
def test_the_bound_of_equation_8_holds_for_every_input(eps1, gamma):
    x = _rows(40, 12, 12) * torch.logspace(-4, 1, 12, dtype=torch.float64)
    found = spectrum(x.T @ x, layer="fc")
    tau = threshold(found.sigma, rule="nuclear", eps1=eps1)
    for keep in (False, True):
        kept = (
            null_basis(found, tau, keep_open=keep)
            if gamma is None
            else bounded_basis(found, tau, gamma, keep_open=keep)
        )
        assert kept.rank > 0
        v = kept.coefficients(torch.randn(3, 12, dtype=torch.float64))
        change = x @ kept.recompose(torch.zeros(3, 12), v).double().T
        bound = tau * spectral_norm(v)
        # For a single input, and for all of them together: ||X S||_2 <= tau.
        assert float(change.norm(dim=1).max()) <= bound * (1 + 1e-5)
        assert float(torch.linalg.matrix_norm(change, 2)) <= bound * (1 + 1e-5)


def test_a_threshold_below_every_sigma_opens_nothing():
    x = _rows(40, 6, 6)
    kept = null_basis(spectrum(x.T @ x, layer="fc"), 0.0)
    assert (kept.rank, kept.columns.shape) == (0, (6, 0))


def test_bounded_scales_are_those_of_the_formula():
    found = _spectrum([1e-6, 0.01, 0.1, 1.0, 3.0, 9.0])
    kept = bounded_basis(found, 0.5, 2.0)
    assert kept.scales.tolist() == pytest.approx([1, 1, 1, 0.25, 1 / 36, 1 / 324])
    assert bool((kept.scales.diff() <= 0).all())


def test_conceptor_scales_are_those_of_the_formula():
    found = _spectrum([0.0, 0.1, 1.0, 3.0, 1e5])
    kept = conceptor_basis(found, 2.0)
    expected = [(1 + (s / 2) ** 2) ** -0.5 for s in (0.0, 0.1, 1.0, 3.0)]
    assert kept.scales.tolist() == pytest.approx([*expected, 0.0])


def test_without_a_filter_nothing_needs_to_be_stored():
    found = _spectrum([0.0, 0.1, 1.0])
    kept = open_basis(found)
    assert (kept.columns.shape, kept.rank, kept.tau) == ((3, 0), 3, 1.0)
    assert kept.projector(CPU).is_identity
    assert open_basis(found, keep_open=True).columns.shape == (3, 3)


def test_bounded_scaling_of_inputs_without_any_signal_opens_everything():
    found = spectrum(torch.zeros(5, 5), layer="fc")
    kept = bounded_basis(found, threshold(found.sigma, rule="nuclear", eps1=1e-3), 1.0)
    assert kept.rank == 5
    assert bool((kept.scales == 1).all())
    assert kept.energy == 0.0


def test_a_direction_that_would_be_slowed_to_a_halt_is_closed():
    kept = bounded_basis(_spectrum([1.0, 1e4 * 0.99, 1e10]), 1.0, 1.0)
    assert kept.rank == 2
    assert kept.scales.tolist() == pytest.approx([1.0, 1 / 9900, 0.0])


@pytest.mark.parametrize("slowed", [0, 2, 5])
def test_an_open_side_that_is_whole_projects_by_its_slowed_directions(slowed):
    u = torch.linalg.qr(torch.randn(5, 5).double())[0].float()
    scale = torch.cat([torch.ones(5 - slowed), torch.full((slowed,), 0.3)])
    projector = OpenBasis(u, torch.arange(5).double(), 1.0, scale).projector(torch.device("cpu"))
    assert projector.columns.shape[1] == slowed
    assert projector.is_identity == (slowed == 0)
    assert projector.rank == 5
    g = torch.randn(3, 5)
    expected = g.double() @ u.double() @ scale.double().square().diag() @ u.double().T
    torch.testing.assert_close(projector(g).double(), expected, rtol=0, atol=1e-5)
