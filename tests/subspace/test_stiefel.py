from __future__ import annotations

import pytest
import torch

from ness_cli.subspace.stiefel import (
    leading_factors,
    nearest_orthonormal,
    off,
    riemannian_gradient,
    tangent,
)


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _orthonormal(rows, columns, seed=0):
    return torch.linalg.qr(_random(rows, columns, seed=seed)).Q


def _tangent_vectors(y):
    """A basis of the tangent space at Y: Y times antisymmetric, and whatever is orthogonal to Y."""
    n, r = y.shape
    found = []
    for i in range(r):
        for j in range(i):
            turn = torch.zeros(r, r, dtype=y.dtype)
            turn[i, j], turn[j, i] = 1.0, -1.0
            found.append(y @ turn)
    beside = torch.linalg.qr(torch.cat([y, torch.eye(n, dtype=y.dtype)], 1), mode="complete").Q
    for i in range(r, n):
        for j in range(r):
            vector = torch.zeros(n, r, dtype=y.dtype)
            vector[:, j] = beside[:, i]
            found.append(vector)
    return torch.stack([vector.flatten() / vector.norm() for vector in found])


def test_a_step_is_projected_onto_the_tangent_space_and_not_further():
    y, step = _orthonormal(7, 3), _random(7, 3, seed=1)
    basis = _tangent_vectors(y)
    assert torch.linalg.matrix_rank(basis) == len(basis) == 7 * 3 - 6
    expected = (basis.T @ (basis @ step.flatten())).view(7, 3)
    torch.testing.assert_close(tangent(y, step), expected)
    torch.testing.assert_close(tangent(y, expected), expected)
    # The formula of the gradient doubles turns within span(Y): it is no projection.
    turned = riemannian_gradient(y, expected)
    torch.testing.assert_close(y.T @ turned, 2 * y.T @ expected)


def test_the_riemannian_gradient_gives_the_slope_along_every_tangent_vector():
    y, gradient = _orthonormal(6, 2), _random(6, 2, seed=2)
    found = riemannian_gradient(y, gradient)
    inner = y.T @ found
    torch.testing.assert_close(inner, -inner.T)
    # In the canonical metric <a, b> = tr a^T (I - Y Y^T / 2) b.
    metric = torch.eye(6, dtype=torch.float64) - y @ y.T / 2
    for vector in _tangent_vectors(y):
        vector = vector.view(6, 2)
        slope, along = (gradient * vector).sum(), (found * (metric @ vector)).sum()
        torch.testing.assert_close(along, slope)


def test_a_point_is_taken_to_its_polar_factor():
    y = _orthonormal(9, 4)
    moved = y + tangent(y, _random(9, 4, seed=3))
    u, _, vh = torch.linalg.svd(moved, full_matrices=False)
    torch.testing.assert_close(nearest_orthonormal(moved), u @ vh)
    found = nearest_orthonormal(moved.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.T @ found, torch.eye(4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_closed", [0, 3])
def test_factors_start_from_the_leading_singular_directions_off_what_is_closed(num_closed):
    gradient = _random(5, 8, seed=4)
    closed = _orthonormal(8, num_closed, seed=5) if num_closed else None
    left, right = leading_factors(gradient, closed, 3)
    x = gradient.T
    if closed is not None:
        x = x - closed @ closed.T @ x
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    # Signs of pairs are free, their products are not.
    torch.testing.assert_close(right @ left.T, u[:, :3] @ vh[:3])


@pytest.mark.parametrize("gradient_rank", [0, 1])
@pytest.mark.parametrize("num_closed", [0, 4])
def test_gradients_of_too_low_a_rank_are_completed_off_what_is_closed(gradient_rank, num_closed):
    gradient = _random(5, gradient_rank, seed=6) @ _random(gradient_rank, 8, seed=7)
    closed = _orthonormal(8, num_closed, seed=5).float() if num_closed else None
    left, right = leading_factors(gradient, closed, 4)
    eye = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(left.T @ left, eye)
    torch.testing.assert_close(right.T @ right, eye)
    if closed is not None:
        torch.testing.assert_close(
            closed.double().T @ right, torch.zeros_like(eye), atol=1e-6, rtol=0
        )


def test_off_nothing_is_everything():
    columns = _random(4, 2)
    assert off(None, columns) is columns
