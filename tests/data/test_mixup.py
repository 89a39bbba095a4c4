from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from factory import add_task, make_method, make_settings, make_task, make_train_step
from scipy.stats import beta
from torch.nn import functional

from ness_cli.data.batches import Batch
from ness_cli.data.mixup import mixed, symmetric_beta


def test_images_are_mixed_with_others_of_the_batch_in_one_share():
    x = torch.randn(6, 1, 2, 2)
    batch = Batch(x, torch.arange(6), task=1, weight=0.5)
    torch.manual_seed(3)
    found = mixed(batch, 0.4)
    assert 0 <= found.mix_weight <= 1
    assert sorted(found.partner_y.tolist()) == list(range(6))
    expected = found.mix_weight * x + (1 - found.mix_weight) * x[found.partner_y]
    torch.testing.assert_close(found.x, expected)
    assert torch.equal(found.y, batch.y)
    assert found.weight == 0.5
    torch.manual_seed(3)
    assert torch.equal(mixed(batch, 0.4).x, found.x)


def test_the_loss_is_that_of_mixed_labels():
    method = make_method(make_settings())
    add_task(method, 1)
    step = make_train_step(method, make_task(1).train, slice(0, 9))
    batch = mixed(step.batch, 1.0)
    logits = method.model(batch.x)
    labels = batch.mix_weight * functional.one_hot(batch.y, 3).double()
    labels += (1 - batch.mix_weight) * functional.one_hot(batch.partner_y, 3)
    expected = -(labels * logits.double().log_softmax(1)).sum(1).mean()
    assert method.loss(replace(step, batch=batch)).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


@pytest.mark.parametrize("alpha", [1e-320, 1e-6, 1e-4, 0.02, 0.2, 1.0, 5.0, 1e6])
def test_shares_are_distributed_as_scipy_says(alpha):
    num = 100_000
    mix_weights = symmetric_beta(alpha, num)
    assert mix_weights.dtype == torch.float64
    assert ((mix_weights >= 0) & (mix_weights <= 1)).all()
    # From far below what float32 can hold up to the other end; the middle is where mixing happens.
    for point in (1e-300, 1e-100, 1e-30, 1e-6, 0.1, 0.3, 0.499, 0.501, 0.7, 0.9, 1 - 1e-6):
        expected = float(beta.cdf(point, alpha, alpha)) if alpha > 1e-300 else 0.5
        found = (mix_weights <= point).double().mean().item()
        # Six standard deviations of a share of draws, and one draw more or less.
        bound = 6 * math.sqrt(expected * (1 - expected) / num) + 1 / num
        assert abs(found - expected) <= bound, point


def test_small_alpha_mixes_next_to_nothing():
    batch = Batch(torch.randn(2, 1, 1, 1), torch.arange(2), task=1)
    mix_weights = [mixed(batch, 1e-4).mix_weight for _ in range(500)]
    assert sum(0.01 < mix_weight < 0.99 for mix_weight in mix_weights) <= 3  # expected: 0.5 of them
