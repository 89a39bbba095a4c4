from __future__ import annotations

import pytest
import torch
from factory import add_task, make_method, make_settings, make_task
from torch.nn import functional

from ness_cli.data.batches import Batch
from ness_cli.data.mixup import mixed


def test_images_are_mixed_with_others_of_the_batch_in_one_share():
    x = torch.randn(6, 1, 2, 2)
    batch = Batch(x, torch.arange(6), task=1, weight=0.5)
    torch.manual_seed(3)
    found = mixed(batch, 0.4)
    assert 0 <= found.share <= 1
    assert sorted(found.partner_y.tolist()) == list(range(6))
    expected = found.share * x + (1 - found.share) * x[found.partner_y]
    torch.testing.assert_close(found.x, expected)
    assert torch.equal(found.y, batch.y)
    assert found.weight == 0.5
    torch.manual_seed(3)
    assert torch.equal(mixed(batch, 0.4).x, found.x)


def test_the_loss_is_that_of_mixed_labels():
    method = make_method(make_settings())
    add_task(method, 1)
    batch = mixed(make_task(1).train.batch(slice(0, 9)), 1.0)
    logits = method.model(batch.x)
    labels = batch.share * functional.one_hot(batch.y, 3).double()
    labels += (1 - batch.share) * functional.one_hot(batch.partner_y, 3)
    expected = -(labels * logits.double().log_softmax(1)).sum(1).mean()
    assert method.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
