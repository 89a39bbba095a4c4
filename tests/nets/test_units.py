"""Zeroing a unit stops the gradients of what was declared to produce or read it, and of no more."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ness_cli.nets.build import build_model
from ness_cli.nets.norm import TaskNorm
from ness_cli.nets.units import HEADS
from ness_cli.settings.resolve import build

NETS = [
    ({"name": "alexnet", "width": 0.05, "dropout": [0, 0]}, (3, 32, 32)),
    ({"name": "alexnet", "width": 0.04, "dropout": [0, 0]}, (1, 28, 33)),
    ({"name": "lenet"}, (3, 20, 15)),
    ({"name": "resnet18", "width": 3}, (3, 32, 32)),
    ({"name": "resnet18", "width": 2, "stem_stride": 2}, (3, 80, 64)),
    ({"name": "mlp", "hidden": [7, 5, 6], "biases": True}, (1, 6, 6)),
    ({"name": "mlp", "hidden": [7, 5], "batch_norm": True}, (1, 6, 6)),
]


def _model(net, shape):
    settings = build({"net": net})
    torch.manual_seed(3)
    model = build_model(settings.net, settings.norm, shape)
    model.add_task(1, 4)
    model.add_task(2, 4)
    model.select(2)
    return model.double()


def _smooth(model):
    """Put an activation without dead units in place of every ReLU: nothing is zero by chance."""
    for name, module in list(model.backbone.named_modules()):
        if isinstance(module, nn.ReLU):
            model.backbone.set_submodule(name, nn.Softplus())


def _zero_gradients(model, shape, units=None, unit=None):
    """Return where every parameter's gradient is exactly zero, with a unit gated if given."""

    def gate(module, args, y):
        mask = torch.ones(y.shape[1], dtype=y.dtype)
        mask[unit] = 0
        return y * mask.view(1, -1, *[1] * (y.dim() - 2))

    handles = [
        model.backbone.get_submodule(name).register_forward_hook(gate)
        for name in (units.activations if units else ())
    ]
    x = torch.randn(6, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    nn.functional.cross_entropy(model(x), torch.arange(6) % 4).backward()
    for handle in handles:
        handle.remove()
    return {n: p.grad == 0 for n, p in model.named_parameters() if p.grad is not None}


def _declared(model, units, unit):
    """Return where gradients are zero according to what the backbone declares."""
    found = {
        n: torch.zeros(p.shape, dtype=torch.bool)
        for n, p in model.named_parameters()
        if not n.startswith("heads.1.")
    }
    for name in (*units.producers, *units.norms):
        for parameter, _ in model.backbone.get_submodule(name).named_parameters():
            found[f"backbone.{name}.{parameter}"][unit] = True
    for consumer in units.consumers:
        name = "heads.2" if consumer.layer == HEADS else f"backbone.{consumer.layer}"
        matrix = found[f"{name}.weight"].flatten(1)  # shares its memory
        assert matrix.shape[1] == units.count * consumer.columns
        matrix[:, unit * consumer.columns : (unit + 1) * consumer.columns] = True
    return found


@pytest.mark.parametrize(("net", "shape"), NETS)
def test_a_zeroed_unit_stops_the_gradients_of_its_producers_and_consumers_only(net, shape):
    model = _model(net, shape)
    _smooth(model)
    assert not any(bool(zero.any()) for zero in _zero_gradients(model, shape).values())
    for number, units in enumerate(model.backbone.units):
        unit = (0, units.count - 1, units.count // 2)[number % 3]
        found, expected = _zero_gradients(model, shape, units, unit), _declared(model, units, unit)
        assert found.keys() == expected.keys()
        for name, zero in found.items():
            assert torch.equal(zero, expected[name]), (units.activations, name)


@pytest.mark.parametrize(("net", "shape"), NETS)
def test_every_activation_layer_and_norm_has_its_place(net, shape):
    model = _model(net, shape)
    modules, units = dict(model.backbone.named_modules()), model.backbone.units
    activations = [name for own in units for name in own.activations]
    assert sorted(activations) == sorted(n for n, m in modules.items() if isinstance(m, nn.ReLU))
    layers = [n for n, m in modules.items() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert sorted(name for own in units for name in own.producers) == sorted(layers)
    norms = [n for n, m in modules.items() if isinstance(m, TaskNorm)]
    assert sorted(name for own in units for name in own.norms) == sorted(norms)
    readers = [consumer.layer for own in units for consumer in own.consumers]
    assert sorted(readers) == sorted([*layers[1:], HEADS])  # the first reads the images


@pytest.mark.parametrize(("net", "shape"), NETS)
def test_activations_have_no_state(net, shape):
    model = _model(net, shape)
    assert not [name for name in model.state_dict() if "relu" in name]
