"""The projected step is the factored one: same trajectory, to rounding, in float64 and float32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from factory import add_task, make_method, make_settings, make_steps, make_task
from rounding import gamma

from ness_cli.subspace.basis import OpenBasis
from ness_cli.subspace.spectrum import spectrum


class _InDtype:
    """Images whose batches come in another dtype."""

    def __init__(self, images, dtype):
        self._images, self._dtype = images, dtype
        self.images = images.images

    def batch(self, index, change=None):
        batch = self._images.batch(index, change)
        return replace(batch, x=batch.x.to(self._dtype))


def _trajectory(
    form: str, dtype: torch.dtype, *, rho: float | None, eps1: float, net=None, ness=None, **train
):
    """Return the weights after every one of 12 steps of task 2."""
    settings = make_settings(
        net=net or {},
        train={
            "momentum": 0.9,
            "lr": 0.05,
            "sam": {"tasks": "none"} if rho is None else {"tasks": "all", "rho": rho},
            **train,
        },
        methods={"ness": {"form": form, "eps1": eps1, **(ness or {})}},
    )
    method = make_method(settings)
    first, second = make_task(1), make_task(2)
    add_task(method, 1)
    method.begin_task(first)
    method.end_task(first)
    method.consolidate(first, lambda _: None)
    add_task(method, 2)
    method.model.to(dtype)
    for name, kept in method._bases.items():
        # To the precision of the test, not to that of the files: U and Q, each rounded, are no
        # longer complements of each other.
        found, k = spectrum(method._covariances[name], layer=name), kept.columns.shape[1]
        start = 0 if type(kept) is OpenBasis else kept.dim - k
        columns = found.between(start, start + k).to(dtype)
        method._bases[name] = replace(kept, columns=columns, scale=kept.scale.to(dtype))
    method.begin_task(second)
    second = replace(second, train=_InDtype(second.train, dtype))
    weights = []
    for _ in make_steps(method, second, 12):
        layers = {name: view.module.weight for name, view in method.layers.items()}
        for name, view in method.layers.items():
            if view.module.bias is not None:
                layers[f"{name}.bias"] = view.module.bias
        layers["head"] = method.model.head(2).weight
        weights.append({name: w.detach().clone() for name, w in layers.items()})
    ranks = {name: kept.rank for name, kept in method._bases.items()}
    if form == "factored":
        assert all(type(kept) is OpenBasis for kept in method._bases.values())
    return weights, ranks


@pytest.mark.parametrize("rho", [None, 0.05])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("eps1", [0.02, 0.08])
def test_both_forms_follow_one_trajectory_in_float64(rho, momentum, weight_decay, eps1):
    settings = {"momentum": momentum, "weight_decay": weight_decay}
    projected, ranks = _trajectory("projected", torch.float64, rho=rho, eps1=eps1, **settings)
    factored, _ = _trajectory("factored", torch.float64, rho=rho, eps1=eps1, **settings)
    assert any(rank > 0 for rank in ranks.values())
    for mine, other in zip(projected, factored, strict=True):
        for name in mine:
            torch.testing.assert_close(mine[name], other[name], rtol=1e-10, atol=1e-12)
    moved = (projected[-1]["fc1"] - projected[0]["fc1"]).abs().max()
    assert moved > 1e-4


def test_both_forms_follow_one_trajectory_where_norms_are_clipped():
    """Decay toward W_prev is no part of what is clipped: a fraction of W_prev is in no subspace."""
    settings = {"rho": None, "eps1": 0.08, "weight_decay": 0.1, "clip_norm": 0.1}
    projected, _ = _trajectory("projected", torch.float64, **settings)
    factored, _ = _trajectory("factored", torch.float64, **settings)
    unclipped, _ = _trajectory("factored", torch.float64, **{**settings, "clip_norm": None})
    for mine, other in zip(projected, factored, strict=True):
        for name in mine:
            torch.testing.assert_close(mine[name], other[name], rtol=1e-10, atol=1e-12)
    assert (factored[-1]["fc1"] - unclipped[-1]["fc1"]).abs().max() > 1e-4


@pytest.mark.parametrize("rho", [None, 0.05])
@pytest.mark.parametrize("bias", ["frozen", "augmented"])
def test_both_forms_follow_one_trajectory_with_biases(rho, bias):
    settings = {"rho": rho, "eps1": 0.08, "weight_decay": 0.1}
    net = {"biases": True, "bias": bias}
    projected, _ = _trajectory("projected", torch.float64, net=net, **settings)
    factored, _ = _trajectory("factored", torch.float64, net=net, **settings)
    for mine, other in zip(projected, factored, strict=True):
        for name in mine:
            torch.testing.assert_close(mine[name], other[name], rtol=1e-10, atol=1e-12)
    moved = (projected[-1]["fc1.bias"] - projected[0]["fc1.bias"]).abs().max()
    assert (moved > 1e-6) == (bias == "augmented")


@pytest.mark.parametrize("rho", [None, 0.05])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
@pytest.mark.parametrize("bias", ["frozen", "augmented"])
@pytest.mark.parametrize("eps1", [1e-3, 0.02, 0.08])
def test_both_forms_follow_one_trajectory_with_bounded_scaling(rho, gamma, bias, eps1):
    settings = {"rho": rho, "eps1": eps1, "weight_decay": 0.1}
    settings["ness"] = {"scaling": "bounded", "gamma": gamma}
    settings["net"] = {"biases": True, "bias": bias}
    projected, ranks = _trajectory("projected", torch.float64, **settings)
    factored, _ = _trajectory("factored", torch.float64, **settings)
    assert all(ranks.values())
    for mine, other in zip(projected, factored, strict=True):
        for name in mine:
            torch.testing.assert_close(mine[name], other[name], rtol=1e-9, atol=1e-11)
    assert (projected[-1]["fc1"] - projected[0]["fc1"]).abs().max() > 1e-4 * eps1


def test_a_large_gamma_is_the_hard_cut():
    settings = {"rho": None, "eps1": 0.05, "weight_decay": 0.1}
    hard, ranks = _trajectory("projected", torch.float64, **settings)
    steep, same = _trajectory(
        "projected", torch.float64, ness={"scaling": "bounded", "gamma": 1e6}, **settings
    )
    assert ranks == same
    for name in hard[-1]:
        torch.testing.assert_close(steep[-1][name], hard[-1][name], rtol=1e-9, atol=1e-12)


def test_a_threshold_above_everything_is_plain_training_with_decay_toward_the_last_weights():
    bounded, _ = _trajectory(
        *("projected", torch.float64),
        **{"rho": None, "eps1": 10.0, "weight_decay": 0.1, "ness": {"scaling": "bounded"}},
    )
    hard, _ = _trajectory("projected", torch.float64, rho=None, eps1=10.0, weight_decay=0.1)
    for name in hard[-1]:
        assert torch.equal(bounded[-1][name], hard[-1][name])


def test_both_forms_agree_in_float32():
    projected, _ = _trajectory("projected", torch.float32, rho=0.05, eps1=0.08, weight_decay=0.01)
    factored, _ = _trajectory("factored", torch.float32, rho=0.05, eps1=0.08, weight_decay=0.01)
    for name in projected[-1]:
        torch.testing.assert_close(projected[-1][name], factored[-1][name], rtol=1e-4, atol=1e-5)


def test_steps_of_both_forms_stay_inside_the_basis():
    for form in ("projected", "factored"):
        settings = make_settings(methods={"ness": {"form": form, "eps1": 0.08}})
        method = make_method(settings)
        add_task(method, 1)
        task = make_task(1)
        method.begin_task(task)
        method.end_task(task)
        method.consolidate(task, lambda _: None)
        before = {n: v.matrix().clone() for n, v in method.layers.items()}
        weights, _ = _trajectory(form, torch.float32, rho=None, eps1=0.08)
        for name, kept in method._bases.items():
            change = weights[-1][name] - before[name]
            outside = change - kept.projector(change.device)(change)
            assert change.norm() > 1e-3
            # The change is a difference of float32 weights, each rounded in each of 12 steps.
            rounding = 12 * gamma(1, torch.float32) * before[name].norm()
            assert outside.norm() <= rounding + 1e-5 * change.norm()
