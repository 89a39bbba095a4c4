"""The published networks have exactly the published layers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ness_cli.errors import SettingsError
from ness_cli.nets.build import build_model
from ness_cli.nets.norm import TaskNorm
from ness_cli.settings.resolve import build
from ness_cli.subspace.layer_view import adapted_layers

RESNET = [27, *[180] * 5, 360, 20, 360, 360, 360, 720, 40, 720, 720, 720, 1440, 80, 1440, 1440]


def _model(image_shape, **net):
    settings = build({"net": net})
    return build_model(settings.net, settings.norm, image_shape)


@pytest.mark.parametrize(
    ("net", "shape", "dims", "weights", "norm_channels", "features"),
    [
        ({"name": "alexnet"}, (3, 32, 32), [48, 576, 512, 1024, 2048], 6_499_328, 4_544, 2048),
        ({"name": "lenet"}, (3, 32, 32), [75, 500, 3200, 800], 2_986_500, 0, 500),
        ({"name": "resnet18"}, (3, 32, 32), RESNET, 1_090_140, 1_500, 640),
        ({"name": "resnet18", "stem_stride": 2}, (3, 84, 84), RESNET, 1_090_140, 1_500, 1440),
        ({"name": "mlp", "hidden": [100, 100]}, (1, 28, 28), [784, 100], 88_400, 0, 100),
    ],
)
def test_a_backbone_has_the_published_layers(net, shape, dims, weights, norm_channels, features):
    model = _model(shape, **net)
    layers = adapted_layers(model.backbone, None).values()
    assert [layer.dim for layer in layers] == dims
    assert sum(layer.weight.numel() for layer in layers) == weights
    norms = [m for m in model.modules() if isinstance(m, TaskNorm)]
    assert sum(norm.num_features for norm in norms) == norm_channels
    assert sum(p.numel() for p in model.parameters()) == weights + 2 * norm_channels
    assert model.backbone(torch.randn(2, *shape)).shape == (2, features)
    assert model.num_features == features


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_images_that_are_too_small_are_refused_with_a_way_out(name):
    with pytest.raises(SettingsError, match="4 x 4 pixels are too small") as error:
        _model((3, 4, 4), name=name)
    assert "data.size" in error.value.remedy


def test_an_odd_image_goes_through_every_network():
    for name in ("alexnet", "lenet", "resnet18", "mlp"):
        model = _model((1, 33, 29), name=name)
        assert model.backbone(torch.randn(2, 1, 33, 29)).shape == (2, model.num_features)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3, 20])
def test_the_response_normalisation_of_lenet_is_torchs_own_to_the_bit(channels, layout):
    lenet = _model((3, 16, 16), name="lenet").backbone
    x = torch.randn(4, channels, 5, 7, requires_grad=True)
    laid_out = x.contiguous(memory_format=layout)
    found = lenet._normalised(laid_out)
    expected = functional.local_response_norm(x, 4, alpha=0.001 / 9, beta=0.75, k=1.0)
    assert torch.equal(found, expected)
    weights = torch.randn_like(found)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected)]
    assert torch.equal(*gradients)
