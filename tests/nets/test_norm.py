from __future__ import annotations

import pytest
import torch
from torch import nn

from ness_cli.nets.norm import TaskNorm


def _norm(statistics="task", affine="frozen", tasks=1) -> TaskNorm:
    norm = TaskNorm(4, statistics=statistics, affine=affine)
    for task_number in range(1, tasks + 1):
        norm.add_task(task_number)
    return norm


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 2)])
def test_training_is_batch_norm_by_the_batch(shape):
    x = torch.randn(shape) * 3 + 1
    reference = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    expected = reference(4, track_running_stats=False)(x)
    torch.testing.assert_close(_norm().train()(x), expected)


@pytest.mark.parametrize("shape", [(7, 4), (7, 4, 3, 2)])
def test_recorded_statistics_are_mean_and_biased_variance_over_all_rows(shape):
    norm, x = _norm().eval(), torch.randn(shape) * 3 + 1
    with norm.record():
        norm(x[:3])
        norm(x[3:])
    rows = x.transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(norm.mean.get_buffer("1").double(), rows.mean(1))
    expected = rows.var(1, unbiased=False)
    torch.testing.assert_close(norm.variance.get_buffer("1").double(), expected)


def test_with_stored_statistics_an_image_does_not_depend_on_its_batch():
    norm, x = _norm().eval(), torch.randn(8, 4)
    with norm.record():
        norm(x)
    torch.testing.assert_close(torch.cat([norm(x[:1]), norm(x[1:])]), norm(x))


def test_every_task_has_its_own_statistics():
    norm = _norm(tasks=2).eval()
    for task_number in (1, 2):
        norm.task = task_number
        with norm.record():
            norm(torch.randn(9, 4) + 10 * task_number)
    x = torch.randn(5, 4)
    outputs = []
    for task_number in (1, 2):
        norm.task = task_number
        outputs.append(norm(x))
    assert (outputs[0] - outputs[1]).abs().min() > 1


def test_batch_statistics_are_never_stored_ones():
    norm, x = _norm(statistics="batch").eval(), torch.randn(8, 4) + 5
    expected = nn.BatchNorm1d(4, track_running_stats=False)(x)
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("is_training", [True, False])
def test_one_value_per_channel_gives_the_shift_whatever_it_is(is_training):
    norm = _norm().train(is_training)
    norm.shift["shared"].data.fill_(2.0)
    x, dy = torch.randn(1, 4, requires_grad=True), torch.randn(1, 4)
    y = norm(x)
    assert torch.equal(y, torch.full((1, 4), 2.0))
    y.backward(dy)
    assert not x.grad.any()
    assert not norm.scale["shared"].grad.any()
    torch.testing.assert_close(norm.shift["shared"].grad, dy[0])


def test_per_task_affine_starts_from_the_task_before_and_leaves_it_alone():
    norm = _norm(affine="per-task")
    norm.scale["1"].data.fill_(3.0)
    norm.add_task(2)
    assert torch.equal(norm.scale["2"], norm.scale["1"])
    norm.scale["2"].data.fill_(5.0)
    assert norm.scale["1"][0] == 3.0


def test_a_failed_recording_stores_nothing():
    norm = _norm().eval()
    with pytest.raises(RuntimeError), norm.record():
        raise RuntimeError
    assert not norm.has_statistics(1)
