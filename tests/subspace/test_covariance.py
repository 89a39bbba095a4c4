from __future__ import annotations

import pytest
import torch
from rounding import assert_same_gram
from torch import nn

from ness_cli.errors import NumericalError
from ness_cli.subspace import covariance, layer_inputs
from ness_cli.subspace.covariance import CovarianceAccumulator, pooled
from ness_cli.subspace.layer_view import LayerView, adapted_layers


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, stride=2, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 5, bias=False),
    )


def _brute_force(net: nn.Sequential, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Patch by patch, in float64, without unfold."""
    padded = nn.functional.pad(x.double(), (1, 1, 1, 1))
    conv = torch.zeros(18, 18, dtype=torch.float64)
    for image in padded:
        for row in range(0, 8, 2):
            for column in range(0, 8, 2):
                patch = image[:, row : row + 3, column : column + 3].flatten()
                conv += torch.outer(patch, patch)
    features = net[:3](x).double()
    return {"0": conv, "3": features.T @ features}


def test_groups_of_a_convolution_may_be_kept_apart():
    conv = torch.nn.Conv2d(4, 6, 3, groups=2, bias=False)
    view = LayerView("conv", conv)
    x = torch.randn(5, 4, 6, 6)
    apart, together = (
        CovarianceAccumulator({"conv": view}, by_group=True),
        CovarianceAccumulator({"conv": view}),
    )
    for accumulator in (apart, together):
        accumulator.add("conv", x)
    c = apart.covariances()["conv"]
    for group in range(2):
        patches = torch.nn.functional.unfold(x[:, 2 * group : 2 * group + 2], 3)
        rows = patches.transpose(1, 2).reshape(-1, 18).double()
        torch.testing.assert_close(c[group], rows.T @ rows)
    torch.testing.assert_close(pooled(c), together.covariances()["conv"])
    assert torch.equal(c, c.mT)


def test_one_pass_gives_every_layers_second_moment_as_a_brute_force_sum():
    net, x = _net(), torch.randn(6, 2, 8, 8)
    accumulator = CovarianceAccumulator(adapted_layers(net, None))
    with torch.no_grad(), accumulator.accumulate():
        net(x)
    for name, expected in _brute_force(net, x).items():
        got = accumulator.covariances()[name]
        assert got.dtype == torch.float64
        assert torch.equal(got, got.T)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_batches_and_chunks_do_not_change_the_sum(monkeypatch):
    layers = adapted_layers(_net(), None)
    inputs = {"0": torch.randn(7, 2, 8, 8), "3": torch.randn(7, 48)}
    whole, parts = CovarianceAccumulator(layers), CovarianceAccumulator(layers)
    for name, x in inputs.items():
        whole.add(name, x)
    monkeypatch.setattr(layer_inputs, "_CHUNK_BYTES", 1)
    for name, x in inputs.items():
        parts.add(name, x[:3])
        parts.add(name, x[3:])
    for name, expected in whole.covariances().items():
        num_rows = len(layers[name].rows(inputs[name]))
        assert_same_gram(parts.covariances()[name], expected, num_rows)


def test_only_the_first_images_count_where_a_limit_is_given():
    net, x = _net(), torch.randn(5, 2, 8, 8)
    limited = CovarianceAccumulator(adapted_layers(net, None), max_images={"0": 2})
    with torch.no_grad(), limited.accumulate():
        net(x)
    expected = _brute_force(net, x[:2])["0"]
    torch.testing.assert_close(limited.covariances()["0"], expected, rtol=1e-6, atol=1e-6)


def test_hooks_are_gone_after_the_block_even_after_an_error():
    net = _net()
    accumulator = CovarianceAccumulator(adapted_layers(net, None))
    with pytest.raises(RuntimeError), accumulator.accumulate():
        raise RuntimeError
    assert not any(module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_names_the_layer(bad):
    net, x = _net(), torch.randn(2, 2, 8, 8)
    net[0].weight.data[0, 0, 0, 0] = bad
    accumulator = CovarianceAccumulator(adapted_layers(net, None))
    with pytest.raises(NumericalError, match="layer 3"), torch.no_grad(), accumulator.accumulate():
        net(x)


def test_nothing_seen_is_a_zero_matrix():
    covariances = CovarianceAccumulator(adapted_layers(_net(), None)).covariances()
    assert all(not c.any() for c in covariances.values())


@pytest.mark.parametrize("dim", [1, 3, 127, 129, 300, 515])
def test_a_gram_matrix_in_blocks_is_the_whole_product(dim):
    rows = torch.randn(7, dim, dtype=torch.float64)
    total = torch.zeros(dim, dim, dtype=torch.float64)
    covariance.add_gram(total, rows)
    covariance.add_gram(total, rows)
    expected = 2 * rows.T @ rows
    assert_same_gram(total.triu() + total.triu(1).T, expected, 2 * len(rows))
