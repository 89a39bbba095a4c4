from __future__ import annotations

import pytest
import torch

from ness_cli.nets.build import build_model
from ness_cli.settings import presets
from ness_cli.settings.resolve import resolve


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_loads_and_says_what_it_is(name):
    resolved = resolve(name)
    assert resolved.preset == name
    assert len(presets.summary(presets.path_of(name))) > 20
    assert "ness" in resolved.settings.methods


@pytest.mark.parametrize("name", presets.names())
@pytest.mark.parametrize("method", ["finetune", "gpm", "joint", "ness"])
def test_every_method_can_be_chosen_on_every_preset(name, method):
    assert resolve(name, [f"method.name={method}"]).settings.method.name == method


def test_the_default_preset_is_there():
    assert presets.DEFAULT in presets.names()


def test_alexnet_has_the_published_layers():
    settings = resolve("cifar100-alexnet").settings
    model = build_model(settings.net, settings.norm, (3, 32, 32))
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    weights = [m.weight for m in (*convolutions, *linears)]
    assert [w[0].numel() for w in weights] == [48, 576, 512, 1024, 2048]
    assert sum(w.numel() for w in weights) == 6_499_328
    assert sum(p.numel() for p in model.parameters()) == 6_499_328 + 9_088
    model.add_task(1, 10)
    assert model.head(1).weight.numel() == 20_480
    assert model.eval()(torch.randn(4, 3, 32, 32)).shape == (4, 10)
