from __future__ import annotations

import torch
from torch import nn

from ness_cli.engine.average import WeightAverage


def test_weights_from_a_step_on_are_averaged_and_earlier_ones_are_not():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(3, 2, generator=generator) for _ in range(7)]
    average = WeightAverage(first_step=3)
    for step, value in enumerate(weights):
        average.add({"w": nn.Parameter(value), "b": nn.Parameter(value[0])}, step)
    expected = torch.stack(weights[3:]).double().mean(dim=0)
    assert average.count == 4
    torch.testing.assert_close(average.tensors["w"].double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(average.tensors["b"].double(), expected[0], rtol=1e-6, atol=1e-6)


def test_a_mean_of_one_is_a_copy():
    parameter = nn.Parameter(torch.ones(2))
    average = WeightAverage(first_step=0)
    average.add({"w": parameter}, 0)
    with torch.no_grad():
        parameter.zero_()
    assert torch.equal(average.tensors["w"], torch.ones(2))
