from __future__ import annotations

import torch
from torch import nn

from ness_cli.optim.make import ParameterGroup, divided, make_optimizer, set_lr
from ness_cli.settings.sections import TrainSettings


def test_groups_keep_their_own_decay_and_rate():
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    groups = [
        ParameterGroup({"a": a}, weight_decay=0.0),
        ParameterGroup({"b": b}, lr_factor=0.5),
        ParameterGroup({}),
    ]
    optimizer = make_optimizer(groups, TrainSettings(lr=0.1, weight_decay=0.01, momentum=0.0))
    set_lr(optimizer, 1.0)
    a.grad, b.grad = torch.zeros(1), torch.zeros(1)
    optimizer.step()
    assert a.item() == 1.0
    torch.testing.assert_close(b.detach(), torch.tensor([1 - 0.5 * 0.01]))


def test_parameters_are_divided_by_object_and_each_belongs_to_the_first_group_that_has_it():
    a, b, c, d = (nn.Parameter(torch.ones(2)) for _ in range(4))  # equal, and not the same
    everything = {"d": d, "a": a, "b": b, "c": c}
    found = divided(everything, (p for p in (b, a)), {a, c}, [nn.Parameter(torch.ones(2))])
    assert [list(own) for own in found] == [["a", "b"], ["c"], [], ["d"]]
    assert found[0]["b"] is b
    assert [list(own) for own in divided({}, [a])] == [[], []]


def test_the_optimizer_is_the_one_asked_for():
    group = [ParameterGroup({"a": nn.Parameter(torch.ones(1))})]
    assert isinstance(make_optimizer(group, TrainSettings(optimizer="adam")), torch.optim.Adam)
    adamw = make_optimizer(group, TrainSettings(optimizer="adamw", weight_decay=0.1))
    assert isinstance(adamw, torch.optim.AdamW)
    sgd = make_optimizer(group, TrainSettings(optimizer="sgd", momentum=0.7))
    assert sgd.param_groups[0]["momentum"] == 0.7


def test_a_gradient_laid_out_in_another_order_is_stepped_like_any_other():
    settings = TrainSettings(lr=0.1, momentum=0.9)
    start, gradient = torch.randn(4, 3), torch.randn(3, 4)
    moved = []
    for grad in (gradient.T, gradient.T.contiguous()):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = make_optimizer([ParameterGroup({"p": parameter})], settings)
        for _ in range(3):
            parameter.grad = grad.clone(memory_format=torch.preserve_format)
            optimizer.step()
        moved.append(parameter.detach())
    assert torch.equal(*moved)
    assert not torch.equal(moved[0], start)


def test_parameters_without_a_gradient_start_their_momentum_later():
    settings = TrainSettings(lr=0.1, momentum=0.9)
    one, two = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = make_optimizer([ParameterGroup({"one": one, "two": two})], settings)
    one.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(two.detach(), torch.ones(2))
    two.grad = torch.ones(2)
    one.grad = None
    optimizer.step()
    torch.testing.assert_close(two.detach(), torch.full((2,), 0.9))
    torch.testing.assert_close(one.detach(), torch.full((2,), 0.9))
