from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from ness_cli.errors import SettingsError
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.layer_view import LayerView, adapted_layers


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(7, 3, bias=False), (5, 7)),
        (nn.Linear(7, 3, bias=False), (5, 4, 7)),
        (nn.Conv2d(2, 3, 3, bias=False), (4, 2, 8, 7)),
        (nn.Conv2d(2, 3, (2, 3), stride=(2, 1), padding=(1, 0), bias=False), (4, 2, 8, 7)),
        (nn.Conv2d(2, 3, 3, dilation=2, padding=2, bias=False), (1, 2, 9, 9)),
        (nn.Conv2d(2, 3, 1, stride=2, bias=False), (4, 2, 8, 8)),
        (nn.Conv2d(2, 3, 3, padding="same", bias=False), (4, 2, 8, 7)),
        (nn.Conv2d(2, 3, (2, 4), padding="same", dilation=(1, 2), bias=False), (4, 2, 8, 9)),
        (nn.Conv2d(2, 3, 3, padding="valid", bias=False), (4, 2, 8, 7)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect", bias=False), (4, 2, 8, 7)),
        (nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular", bias=False), (4, 2, 8, 7)),
        (
            nn.Conv2d(2, 3, 3, stride=2, padding=1, padding_mode="replicate", bias=False),
            (4, 2, 7, 7),
        ),
    ],
)
# torch says that uneven padding costs a copy; it is what is tested.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
def test_rows_times_matrix_is_the_layers_output(module, shape):
    # In float64: a convolution may be computed in ways that round float32 visibly.
    view = LayerView("layer", module.double())
    x = torch.randn(shape, dtype=torch.float64)
    rows = view.rows(x)
    expected = module(x)
    if isinstance(module, nn.Conv2d):
        expected = expected.flatten(2).transpose(1, 2)
    torch.testing.assert_close(rows @ view.matrix().T, expected.reshape(-1, view.out))
    assert rows.shape == (shape[0] * view.rows_per_image(x), view.dim)


def test_gradient_is_the_matrix_of_the_weights_gradient():
    conv = nn.Conv2d(2, 3, 2, bias=False)
    conv(torch.randn(4, 2, 5, 5)).square().sum().backward()
    view = LayerView("conv", conv)
    assert torch.equal(view.gradient(), conv.weight.grad.reshape(3, 8))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(7, 3), (5, 7)),
        (nn.Conv2d(2, 3, 3, padding=1), (4, 2, 8, 7)),
    ],
)
def test_with_a_bias_column_rows_times_matrix_is_the_whole_output(module, shape):
    view = LayerView("layer", module.double(), augment_bias=True)
    x = torch.randn(shape, dtype=torch.float64)
    expected = module(x)
    if isinstance(module, nn.Conv2d):
        expected = expected.flatten(2).transpose(1, 2)
    rows = view.rows(x)
    torch.testing.assert_close(rows @ view.matrix().T, expected.reshape(-1, view.out))
    assert rows.shape == (shape[0] * view.rows_per_image(x), view.dim)
    assert bool((rows[:, -1] == 1).all())


def test_values_and_gradients_go_in_and_out_of_weight_and_bias():
    layer = nn.Conv2d(2, 3, 2)
    layer(torch.randn(4, 2, 5, 5)).square().sum().backward()
    view = LayerView("conv", layer, augment_bias=True)
    assert torch.equal(view.gradient()[:, :-1], layer.weight.grad.reshape(3, 8))
    assert torch.equal(view.gradient()[:, -1], layer.bias.grad)
    values = torch.randn(3, 9)
    view.set_matrix(values)
    view.set_gradient(2 * values)
    assert torch.equal(view.matrix(), values)
    assert torch.equal(view.gradient(), 2 * values)
    assert layer.bias.grad.is_contiguous()
    without = LayerView("conv", layer)
    assert (without.dim, list(without.parameters)) == (8, ["weight"])
    without.set_matrix(values[:, 1:])
    assert torch.equal(layer.bias, values[:, -1])


@pytest.mark.parametrize("groups", [2, 4])
def test_rows_of_a_grouped_convolution_are_the_patches_of_all_its_groups(groups):
    conv = nn.Conv2d(4, 8, 3, groups=groups, padding=1, stride=2, bias=False).double()
    view = LayerView("conv", conv)
    x = torch.randn(5, 4, 7, 7, dtype=torch.float64)
    rows = view.rows(x).view(5, -1, groups, view.dim)
    expected = conv(x).flatten(2).transpose(1, 2)
    each = 8 // groups
    for group in range(groups):
        own = view.matrix()[group * each : (group + 1) * each]
        torch.testing.assert_close(
            rows[:, :, group] @ own.T, expected[..., group * each : (group + 1) * each]
        )
    assert rows.flatten(0, 2).shape == (5 * view.rows_per_image(x), view.dim)


def test_an_update_in_the_null_space_of_a_grouped_convolution_changes_no_output():
    conv = nn.Conv2d(8, 8, 3, groups=4, bias=False).double()
    x = torch.randn(3, 8, 4, 4, dtype=torch.float64)
    x[:, 1::2] = 0  # every group sees one of its two channels only
    view = LayerView("conv", conv)
    covariance = view.rows(x).T @ view.rows(x)
    values, vectors = torch.linalg.eigh(covariance)
    free = vectors[:, values < 1e-9 * values[-1]]
    assert free.shape[1] == 9
    before = conv(x)
    view.set_matrix(view.matrix() + torch.randn(8, 9, dtype=torch.float64) @ free.T)
    torch.testing.assert_close(conv(x), before, rtol=0, atol=1e-10)


def test_adapted_layers_are_all_linear_and_conv_layers_in_order():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4))
    head = nn.Linear(4, 2)
    assert list(adapted_layers(net, None)) == ["0", "3"]
    assert list(adapted_layers(net, head)) == ["0", "3", "heads.shared"]


def test_patterns_choose_layers_and_must_match_some():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4))
    assert list(adapted_layers(net, None, patterns=["3"])) == ["3"]
    with pytest.raises(SettingsError, match="no layer matches 'fc'"):
        adapted_layers(net, None, patterns=["*", "fc"])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("augment", [False, True])
def test_a_gradient_that_was_edited_and_set_is_the_edited_one(layout, augment):
    """Whether the matrix shares the gradient's memory or is a copy of it."""
    module = nn.Conv2d(3, 4, 2, bias=augment).to(memory_format=layout)
    view = LayerView("conv", module, augment_bias=augment)
    expected = {}
    for name, parameter in view.parameters.items():
        parameter.grad = torch.randn_like(parameter)
        expected[name] = 3 * parameter.grad
    gradient = view.gradient()
    gradient.mul_(3)
    view.set_gradient(gradient)
    for name, parameter in view.parameters.items():
        assert torch.equal(parameter.grad, expected[name])


class _Plus(nn.Module):
    """The effective weight W + A, or b + a; counts how often it is computed."""

    def __init__(self, like):
        super().__init__()
        self.added = nn.Parameter(torch.randn_like(like))
        self.inner = nn.Linear(2, 2)  # no layer of the network
        self.count = 0

    def forward(self, value):
        self.count += 1
        return value + self.added


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda bias: nn.Linear(7, 3, bias=bias), (5, 7)),
        (lambda bias: nn.Conv2d(2, 3, 3, padding=1, bias=bias), (4, 2, 8, 7)),
    ],
)
@pytest.mark.parametrize("augment", [False, True])
def test_a_view_sees_through_a_parametrisation(make, shape, augment):
    module, x = make(augment).double(), torch.randn(shape, dtype=torch.float64)
    view = LayerView("layer", module, augment_bias=augment)
    parameters, before, rows = view.parameters, view.matrix().clone(), view.rows(x)
    added = {name: _Plus(p) for name, p in parameters.items()}
    for name, plus in added.items():
        parametrize.register_parametrization(module, name, plus)
    counts = [plus.count for plus in added.values()]
    later = LayerView("layer", module, augment_bias=augment)
    for own in (view, later):
        assert own.is_parametrised
        assert all(own.parameters[name] is p for name, p in parameters.items())
        assert own.weight is parameters["weight"]
        assert (own.dim, own.out) == (before.shape[1], 3)
        assert torch.equal(own.rows(x), rows)
        assert torch.equal(own.matrix(), before)
    assert [plus.count for plus in added.values()] == counts  # nothing was computed for it
    view.set_matrix(2 * before)
    assert torch.equal(module.weight, parameters["weight"] + added["weight"].added)
    assert torch.equal(parameters["weight"].flatten(1), 2 * before[:, : rows.shape[1] - augment])
    y = module(x)
    dy = torch.randn_like(y)
    y.backward(dy)
    by_row = dy.flatten(2).transpose(1, 2).reshape(-1, 3) if y.dim() == 4 else dy
    torch.testing.assert_close(view.gradient(), by_row.T @ rows)
    view.set_gradient(3 * before)
    assert torch.equal(later.gradient(), 3 * before)
    for name in parameters:
        parametrize.remove_parametrizations(module, name, leave_parametrized=False)
    assert not view.is_parametrised
    assert torch.equal(view.matrix(), 2 * before)


def test_layers_inside_of_a_parametrisation_are_no_layers_of_the_network():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4))
    names = list(adapted_layers(net, None))
    for layer in (net[0], net[2]):
        parametrize.register_parametrization(layer, "weight", _Plus(layer.weight))
    assert list(adapted_layers(net, None)) == names == ["0", "2"]


def test_covariances_of_a_parametrised_layer_are_those_of_its_inputs():
    layer, x = nn.Linear(7, 3, bias=False), torch.randn(5, 7)
    parametrize.register_parametrization(layer, "weight", _Plus(layer.weight))
    accumulator = CovarianceAccumulator({"fc": LayerView("fc", layer)})
    with accumulator.accumulate():
        layer(x)
    torch.testing.assert_close(accumulator.covariances()["fc"], x.double().T @ x.double())
