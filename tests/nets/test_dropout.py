from __future__ import annotations

import math

import pytest
import torch

from ness_cli.nets.dropout import Dropout, keep_mask

N = 400_000


def _z(count, n, p):
    """Distance of a count of successes from its mean, in standard deviations."""
    return (count - n * p) / math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("p", [0.2, 0.5, 1 / 3, 0.9, 2**-17])
def test_each_activation_is_dropped_with_exactly_the_probability_asked_for(p):
    x = torch.empty(N)
    dropped = sum(int((~keep_mask(x, p)).sum()) for _ in range(10))
    assert abs(_z(dropped, 10 * N, p)) < 5


def test_a_probability_between_two_sixteen_bit_values_is_met_on_average():
    p = 100.25 / 2**16
    thresholds = torch.tensor([int((~keep_mask(torch.empty(2**18), p)).sum()) for _ in range(400)])
    # 100 of 2**16 values in three calls of four, 101 in the fourth.
    assert abs(_z(int(thresholds.sum()), 400 * 2**18, p)) < 5


def test_the_four_lanes_of_a_draw_are_independent():
    keep = keep_mask(torch.empty(N), 0.3).view(-1, 4).double()
    correlation = torch.corrcoef(keep.T) - torch.eye(4)
    assert float(correlation.abs().max()) < 5 / math.sqrt(N / 4)


def test_the_gradient_passes_where_the_activation_did_with_the_same_factor():
    x = torch.randn(7, 5, 3, dtype=torch.float64, requires_grad=True)
    y = Dropout(0.4).train()(x)
    y.backward(torch.ones_like(y))
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / 0.6)
    torch.testing.assert_close(x.grad, kept.double() / 0.6)


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (2, 3, 4, 5)])
def test_any_shape_keeps_its_shape_and_layout(shape):
    x = torch.ones(shape)
    assert Dropout(0.5)(x).shape == x.shape
    if len(shape) == 4:
        x = x.to(memory_format=torch.channels_last)
        assert Dropout(0.5)(x).stride() == x.stride()


def test_the_same_state_of_the_generator_gives_the_same_bits():
    x = torch.randn(1000)
    state = torch.get_rng_state()
    first = Dropout(0.2)(x)
    assert not torch.equal(first, Dropout(0.2)(x))
    torch.set_rng_state(state)
    assert torch.equal(first, Dropout(0.2)(x))


def test_evaluation_and_zero_probability_change_nothing():
    x = torch.randn(10)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_a_probability_of_one_drops_everything():
    assert not Dropout(1.0)(torch.ones(100)).any()


def test_half_precision_stays_half_precision():
    assert Dropout(0.5)(torch.ones(10, dtype=torch.bfloat16)).dtype == torch.bfloat16
