"""What a method of the projection family may decide for itself."""

from __future__ import annotations

import pytest
import torch
from factory import add_task, make_method, make_settings, make_steps, make_task
from torch import nn
from torch.nn.utils import parametrize

from ness_cli.methods.gpm import Gpm
from ness_cli.settings.resolve import build
from ness_cli.subspace.projection import Projector


class _Confined(Gpm):
    """Confines every layer in every task, the first one included, to directions of its own."""

    def start(self):
        super().start()
        generator = torch.Generator().manual_seed(0)
        self.bases = {
            name: torch.linalg.qr(torch.randn(view.dim, 5, generator=generator))[0]
            for name, view in self.layers.items()
        }

    def projectors(self, task):
        return {name: Projector(basis) for name, basis in self.bases.items()}


def _make(kind=_Confined, **train):
    plain = make_method(make_settings(method={"name": "gpm"}, train=train))
    return kind(plain.model, plain.options, plain.train, seed=0)


def _outside(method, before):
    """Return the share of every layer's update that lies outside of its directions."""
    found = {}
    for name, view in method.layers.items():
        change = (view.matrix() - before[name]).double()
        inside = change @ method.bases[name].double() @ method.bases[name].double().T
        assert change.norm() > 0, name
        found[name] = float((change - inside).norm() / change.norm())
    return found


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_method_may_confine_the_first_task_too(momentum):
    method, task = _make(momentum=momentum), make_task(1)
    add_task(method, 1)
    method.begin_task(task)
    before = {name: view.matrix().clone() for name, view in method.layers.items()}
    for _ in make_steps(method, task, 4):
        pass
    method.end_task(task)
    assert max(_outside(method, before).values()) < 1e-5


@pytest.mark.parametrize("name", ["ness", "gpm", "sgp"])
def test_the_first_task_of_a_published_method_is_free(name):
    method = make_method(make_settings(method={"name": name}))
    assert method.projectors(make_task(1)) == {}


class _Mixed(_Confined):
    """Trains with effective weights W + W B (Q - I) B^T, Q a matrix that trains along (TRGP)."""

    def begin_task(self, task):
        super().begin_task(task)
        self.mixing = {name: _Mixing(torch.randn(v.dim, 3)) for name, v in self.layers.items()}
        for name, mixing in self.mixing.items():
            parametrize.register_parametrization(self.layers[name].module, "weight", mixing)

    def end_task(self, task):
        for view in self.layers.values():
            parametrize.remove_parametrizations(view.module, "weight", leave_parametrized=False)
        super().end_task(task)


class _MixedByGradient(_Mixed):
    projects_rows = False


class _Mixing(nn.Module):
    def __init__(self, directions):
        super().__init__()
        self.basis = torch.linalg.qr(directions)[0]
        self.added = nn.Parameter(0.1 * torch.randn(directions.shape[1], directions.shape[1]))

    def forward(self, weight):
        matrix = weight.flatten(1)
        return (matrix + matrix @ self.basis @ self.added @ self.basis.T).view(weight.shape)


@pytest.mark.parametrize("kind", [_Mixed, _MixedByGradient])
@pytest.mark.parametrize(
    ("net", "shape"),
    [
        ({"name": "mlp", "hidden": [12, 10]}, (1, 4, 4)),
        ({"name": "alexnet", "width": 0.05}, (1, 32, 32)),
    ],
)
def test_steps_through_effective_weights_stay_in_the_subspace(kind, net, shape):
    train = {"batch_size": 8, "lr": 0.05, "momentum": 0.9}
    settings = build({"method": {"name": "gpm"}, "net": net, "train": train})
    plain = make_method(settings, shape)
    method, task = kind(plain.model, plain.options, plain.train, seed=0), make_task(1, shape=shape)
    add_task(method, 1)
    names = list(method.model.state_dict())
    method.begin_task(task)
    before = {name: view.matrix().clone() for name, view in method.layers.items()}
    mixed = {name: own.added.detach().clone() for name, own in method.mixing.items()}
    for _ in make_steps(method, task, 3):
        pass
    for name, own in method.mixing.items():
        assert not torch.equal(own.added, mixed[name])
    method.end_task(task)
    assert max(_outside(method, before).values()) < 1e-5
    assert list(method.model.state_dict()) == names


class _ByGradient(_Confined):
    projects_rows = False


def test_a_method_that_declines_projected_rows_learns_the_same():
    weights = []
    for kind in (_Confined, _ByGradient):
        method, task = _make(kind, momentum=0.9), make_task(1)
        add_task(method, 1)
        method.begin_task(task)
        for _ in make_steps(method, task, 4):
            pass
        assert any(map(method._is_projected, method.layers)) == kind.projects_rows
        weights.append(torch.cat([v.matrix().flatten() for v in method.layers.values()]))
        method.end_task(task)
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)
