from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from ness_cli.subspace.low_rank_perturbation import perturbed_weight, quantile, ranks_of, rescaled


def _random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _pieces(out, width, rank):
    return {
        "R": _random(out, seed=1),
        "S": _random(width, seed=2),
        "P": _random(out, rank, seed=3),
        "Q": _random(rank, width, seed=4),
    }


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), (1, 2)])
def test_a_convolution_adds_low_rank_mixtures_of_sums_over_its_kernel(stride, padding):
    base, x, own = _random(5, 4, 3, 3), _random(2, 4, 7, 6, seed=9), _pieces(5, 4, 2)
    found = functional.conv2d(x, perturbed_weight(base, own), stride=stride, padding=padding)
    scaled = functional.conv2d(
        x * own["S"].view(1, -1, 1, 1), base, stride=stride, padding=padding
    ) * own["R"].view(1, -1, 1, 1)
    inner = functional.conv2d(x, own["Q"][..., None, None])
    summed = functional.avg_pool2d(functional.pad(inner, [padding] * 4), 3, stride) * 9
    torch.testing.assert_close(found, scaled + functional.conv2d(summed, own["P"][..., None, None]))


def _authors_fit(w, b):
    """Row after row, then column after column, with loops over numbers."""
    rows, columns = np.zeros(w.shape[0]), np.zeros(w.shape[1])
    for j in range(w.shape[0]):
        rows[j] = np.sum(w[j] * b[j]) / max(np.sum(b[j] ** 2), 1e-20)
    b = np.stack([row * of for row, of in zip(rows, b, strict=True)])
    for i in range(w.shape[1]):
        columns[i] = np.sum(w[:, i] * b[:, i]) / max(np.sum(b[:, i] ** 2), 1e-20)
    rest = w - np.stack([c * b[:, i] for i, c in enumerate(columns)], axis=1)
    rest = rest if rest.ndim == 2 else rest.mean(axis=(2, 3))
    return rows, columns, rest


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (4, 3, 2, 5), (1, 1), (3, 1, 2, 2)])
def test_scales_are_fitted_and_the_rest_decomposed_as_the_authors_do(shape):
    weight, base = _random(*shape), _random(*shape, seed=1)
    base[0] = 0  # a unit that the first task does not use
    found = rescaled(weight, base)
    rows, columns, rest = _authors_fit(weight.numpy(), base.numpy())
    np.testing.assert_allclose(found.rows, rows, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.columns, columns, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.sigma, np.linalg.svd(rest)[1], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose((found.u * found.sigma) @ found.v.T, rest, atol=1e-10)
    assert found.positions == int(np.prod(shape[2:]))


def test_the_full_rank_gives_a_linear_layer_back_and_less_gives_the_nearest_of_that_rank():
    weight, base = _random(5, 7), _random(5, 7, seed=1)
    found = rescaled(weight, base)
    pieces = {k: v.double() for k, v in found.pieces(5).items()}
    torch.testing.assert_close(perturbed_weight(base, pieces), weight, rtol=0, atol=1e-5)
    two = {k: v.double() for k, v in found.pieces(2).items()}
    missing = torch.linalg.matrix_norm(weight - perturbed_weight(base, two))
    torch.testing.assert_close(missing, found.sigma[2:].norm(), rtol=1e-5, atol=0)


def test_a_weight_that_did_not_move_leaves_nothing_to_add():
    base = _random(4, 6)
    found = rescaled(base, base)
    assert torch.allclose(found.rows, torch.ones(4, dtype=torch.float64))
    assert found.sigma.max() < 1e-12
    assert torch.isfinite(found.pieces(1)["P"]).all()


def test_the_fewest_directions_that_exceed_the_share_are_kept_the_last_one_included():
    costs = {"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([3.0, 1.0])}
    assert ranks_of(costs, 0.5) == {"a": 1, "b": 1}  # 5 of 10 reach a half, and do not exceed it
    assert ranks_of(costs, 0.49) == {"a": 1, "b": 0}
    assert ranks_of(costs, 0.8) == {"a": 2, "b": 1}
    assert ranks_of(costs, 1.0) == {"a": 2, "b": 2}
    assert ranks_of({"a": torch.zeros(3), "b": torch.zeros(2)}, 0.9) == {"a": 0, "b": 0}


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.37, 0.5, 0.999, 1.0])
def test_what_is_up_to_the_quantile_is_what_is_up_to_the_interpolated_one(fraction):
    for size, seed in itertools.product((1, 2, 10, 101), range(3)):
        values = _random(size, seed=seed).abs()
        interpolated = torch.quantile(values, fraction)
        assert int((values <= quantile(values, fraction)).sum()) == int(
            (values <= interpolated + 1e-12).sum()
        )
