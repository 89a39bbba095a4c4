from __future__ import annotations

import pytest
import torch
from torch import nn

from ness_cli.errors import SettingsError
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
    ],
)
def test_rows_times_matrix_is_the_layers_output(module, shape):
    view = LayerView("layer", module)
    x = torch.randn(shape)
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
    "module",
    [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
    ],
)
def test_an_unsupported_convolution_is_refused_by_name(module):
    with pytest.raises(SettingsError, match="layer conv9"):
        LayerView("conv9", module)


def test_adapted_layers_are_all_linear_and_conv_layers_in_order():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4))
    head = nn.Linear(4, 2)
    assert list(adapted_layers(net, None)) == ["0", "3"]
    assert list(adapted_layers(net, head)) == ["0", "3", "heads.shared"]
