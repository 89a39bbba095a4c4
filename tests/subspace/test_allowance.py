"""The budget that chooses itself."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from ness_cli.subspace.allowance import FRACTIONS, TOTAL, allowance, smallest_sufficient


def test_the_first_budget_is_a_tenth():
    assert allowance(0.0) == pytest.approx(0.1)


def test_however_many_updates_use_all_of_theirs_together_they_stay_below_the_total():
    spent = 0.0
    for _ in range(1000):
        b = allowance(spent)
        assert 0 <= b <= 0.1
        spent += b**2
    assert math.sqrt(spent) < TOTAL
    assert allowance(TOTAL**2 + 1e-3) == 0


def test_what_one_update_leaves_the_next_ones_have():
    assert allowance(0.05**2) > allowance(0.1**2)


def _losses(cost: float, spread: float):
    """Losses that rise by ``cost`` on average, give or take, as all of the budget is taken."""
    noise = torch.randn(400, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noise = (noise - noise.mean()) / noise.std()
    base = torch.linspace(0, 3, 400, dtype=torch.float64)
    return lambda fraction: base + (1 - fraction) * (cost + spread * noise)


def test_nothing_is_given_up_that_validation_images_miss():
    assert smallest_sufficient(_losses(cost=0.1, spread=1.0)) == 1.0


def test_what_validation_images_do_not_miss_is_given_up():
    assert smallest_sufficient(_losses(cost=-0.1, spread=1.0)) == min(FRACTIONS)
    assert smallest_sufficient(_losses(cost=0.04, spread=1.0)) == min(FRACTIONS)


@pytest.mark.parametrize("cost", [0.049, 0.051])
def test_the_edge_is_one_standard_error_of_the_paired_differences(cost):
    losses = _losses(cost, spread=1.0)
    difference = (losses(0.25) - losses(1.0)).numpy()
    is_within = difference.mean() <= stats.sem(difference)
    assert (smallest_sufficient(losses) < 1) == is_within == (cost < 0.05)


def test_between_fractions_the_smallest_that_does_is_taken():
    needed = 0.6

    def losses(fraction: float) -> torch.Tensor:
        worse = 1.0 if fraction < needed else 0.0
        return torch.linspace(0, 1, 50) + worse

    assert smallest_sufficient(losses) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("values", [[float("nan")] * 3, [float("inf")] * 3, [1.0], []])
def test_what_cannot_be_judged_is_left_alone(values):
    assert smallest_sufficient(lambda fraction: torch.tensor(values) / fraction) == 1.0
