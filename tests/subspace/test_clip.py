from __future__ import annotations

import math

import pytest
import torch

from ness_cli.subspace.clip import clip_spectral_norm, spectral_norm


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 7), (5, 5), (40, 12)])
@pytest.mark.parametrize("fraction", [0.2, 0.7, 0.999])
def test_singular_values_are_clipped_and_nothing_else_moves(shape, fraction):
    v = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    u, s, w = torch.linalg.svd(v.double(), full_matrices=False)
    limit = fraction * float(s[0])
    clipped = clip_spectral_norm(v, limit)
    expected = u @ torch.diag(s.clamp(max=limit)) @ w
    torch.testing.assert_close(clipped.double(), expected, rtol=1e-4, atol=1e-5)
    assert spectral_norm(clipped) <= limit
    assert clipped.dtype == torch.float32


@pytest.mark.parametrize("limit", [1e9, math.inf])
def test_what_is_within_the_limit_keeps_its_bits(limit):
    v = torch.randn(4, 6)
    assert clip_spectral_norm(v, limit) is v


@pytest.mark.parametrize("excess", [1e3, 1e9, 1e14])
def test_a_matrix_far_above_its_limit_comes_down_to_it(excess):
    v = torch.randn(30, 20, generator=torch.Generator().manual_seed(2))
    assert (
        spectral_norm(clip_spectral_norm(v, spectral_norm(v) / excess)) <= spectral_norm(v) / excess
    )


def test_degenerate_matrices():
    assert spectral_norm(torch.zeros(0, 3)) == 0
    assert torch.equal(clip_spectral_norm(torch.zeros(3, 2), 0.0), torch.zeros(3, 2))
    assert clip_spectral_norm(torch.zeros(0, 3), 1.0).shape == (0, 3)
    rank_one = torch.ones(4, 4)
    assert spectral_norm(clip_spectral_norm(rank_one, 1.0)) == pytest.approx(1.0, rel=1e-5)
