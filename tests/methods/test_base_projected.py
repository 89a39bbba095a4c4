"""What a method of the projection family may decide for itself."""

from __future__ import annotations

import pytest
import torch
from factory import add_task, make_method, make_settings, make_steps, make_task

from ness_cli.methods.gpm import Gpm
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
