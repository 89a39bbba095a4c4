from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from ness_cli.errors import SettingsError
from ness_cli.nets.build import build_model
from ness_cli.nets.determinism import (
    WITHOUT_DETERMINISTIC_BACKWARD,
    nondeterministic_layers,
    refuse_nondeterministic,
)
from ness_cli.nets.multi_head import MultiHead
from ness_cli.settings.resolve import build
from ness_cli.settings.sections import ComputeSettings

STRICT, CUDA = ComputeSettings(), torch.device("cuda")


def _model(shape=(3, 32, 32), **net):
    settings = build({"net": net, "norm": {"affine": "per-task"}})
    model = build_model(settings.net, settings.norm, shape)
    model.add_task(1, 2)
    return model


@pytest.mark.parametrize(
    "net",
    [
        {"name": "mlp", "hidden": [8], "batch_norm": True, "dropout": 0.1},
        {"name": "lenet"},
        {"name": "alexnet", "width": 0.05},
        {"name": "resnet18", "width": 2},
        {"name": "torchvision", "model": "resnet18"},
        {
            "name": "torchvision",
            "model": "VisionTransformer",
            "arguments": {
                "patch_size": 8,
                "num_layers": 1,
                "num_heads": 2,
                "hidden_dim": 8,
                "mlp_dim": 8,
            },
        },
    ],
    ids=lambda net: net.get("model", net["name"]),
)
def test_networks_that_train_deterministically_are_let_through(net):
    model = _model(**net)
    assert nondeterministic_layers(model, (3, 32, 32)) == {}
    assert model.training
    refuse_nondeterministic(model, (3, 32, 32), STRICT, CUDA)


class _Plain(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.layer = layer

    def forward(self, x):
        return self.layer(self.conv(x)).flatten(1)


class _Smooth(nn.Module):
    def forward(self, x):
        return functional.local_response_norm(x, 3)


@pytest.mark.parametrize(
    ("layer", "out", "kind"),
    [
        (nn.AdaptiveAvgPool2d(3), 36, "AdaptiveAvgPool2d"),
        (nn.AdaptiveAvgPool2d(1), 4, None),
        (nn.AdaptiveMaxPool2d(2), 16, "AdaptiveMaxPool2d"),
        (nn.ReflectionPad2d(1), 400, "ReflectionPad2d"),
        (nn.ReplicationPad2d(1), 400, None),
        (nn.MaxPool2d(3, 2, 1), 64, None),
        (nn.AvgPool2d(2), 64, None),
        (nn.Upsample(scale_factor=2, mode="bicubic"), 1024, "bicubic interpolation"),
        (_Smooth(), 256, "AvgPool3d"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_layer_is_known_by_what_it_computes(layer, out, kind):
    model = MultiHead(_Plain(layer), out, shared_head=False)
    model.add_task(1, 2)
    found = nondeterministic_layers(model, (3, 8, 8))
    assert found == ({} if kind is None else {"layer": kind})


def test_what_cannot_be_deterministic_is_refused_with_the_layer_and_a_remedy():
    model = MultiHead(_Plain(nn.AdaptiveAvgPool2d(3)), 36, shared_head=False)
    model.add_task(1, 2)
    with pytest.raises(SettingsError, match="layer layer has no deterministic") as found:
        refuse_nondeterministic(model, (3, 8, 8), STRICT, CUDA)
    assert "compute.determinism=seeded" in found.value.remedy
    refuse_nondeterministic(model, (3, 8, 8), STRICT, torch.device("cpu"))
    refuse_nondeterministic(model, (3, 8, 8), ComputeSettings(determinism="seeded"), CUDA)


def test_every_operation_of_the_table_exists_and_is_documented():
    documented = torch.use_deterministic_algorithms.__doc__.partition("will throw a")[2]
    for operation, kind in WITHOUT_DETERMINISTIC_BACKWARD.items():
        assert hasattr(torch.ops.aten, operation)
        assert kind.partition(" interpolation")[0] in documented
