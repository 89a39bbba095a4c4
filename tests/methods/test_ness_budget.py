"""The budget of NESS: what it promises is what is measured on the very inputs."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from factory import GroupedBackbone, add_task, make_method, make_settings, make_task
from rounding import gamma
from torch import nn

from ness_cli.engine.stepper import Stepper
from ness_cli.errors import SettingsError
from ness_cli.methods.ness import Ness
from ness_cli.methods.step import StepProgress
from ness_cli.nets.multi_head import MultiHead
from ness_cli.subspace.allowance import FRACTIONS, allowance
from ness_cli.subspace.basis import open_basis
from ness_cli.subspace.budget import LayerBudget
from ness_cli.subspace.clip import spectral_norm
from ness_cli.subspace.layer_inputs import observed_inputs
from ness_cli.subspace.limits import LayerLimits, directions_of
from ness_cli.subspace.spectrum import spectrum

STEPS = 30


def _trained(tasks=3, *, net=None, train=None, grouped=False, **ness):
    """Train some tasks; return the method and, per update, rho measured on all earlier inputs."""
    options = {"scaling": "none", "budget": 0.1, **ness}
    settings = make_settings(
        net=net or {},
        train={"lr": 0.2, "momentum": 0.9, **(train or {})},
        methods={"ness": options},
    )
    method = make_method(settings)
    if grouped:
        model = MultiHead(GroupedBackbone(), GroupedBackbone.num_features, shared_head=False)
        method = Ness(model, settings.options, settings.train, seed=1, batch_size=16)
    inputs: dict[str, list[torch.Tensor]] = {}
    measured = []
    for task_number in range(1, tasks + 1):
        task = make_task(task_number)
        add_task(method, task_number)
        before = {name: deepcopy(view.module).double() for name, view in method.layers.items()}
        method.begin_task(task)
        stepper = Stepper(method, task)
        for step in range(STEPS):
            stepper.step(task.train, torch.arange(8), StepProgress(0, step, STEPS, 1))
        method.after_epoch(task)
        method.end_task(task)
        if task_number > 1:
            measured.append(
                {
                    name: _rho(before[name], deepcopy(view.module).double(), inputs[name])
                    for name, view in method.layers.items()
                }
            )
        method.consolidate(task, lambda _: None)

        def see(name, x):
            inputs.setdefault(name, []).append(x.double())

        with observed_inputs(method.layers, see):
            method.forward_images([task.train], lambda _: None)
    return method, measured


class Measured(NamedTuple):
    """The rms relative change of a layer's outputs on its inputs.

    ``rounding`` is how far tr(dW C dW^T) may lie from it, relatively: where dW lies nearly all in
    directions that the inputs do not use, large terms cancel.
    """

    rho: float
    rounding: float


@torch.no_grad()
def _rho(before, after, inputs):
    x = torch.cat(inputs)
    then, moved = before(x), (after(x) - before(x)).square().sum()
    change = torch.linalg.vector_norm(after.weight - before.weight)
    rows = x if x.dim() == 2 else nn.functional.unfold(x, before.kernel_size, 1, before.padding)
    terms = change.square() * rows.square().sum()
    num_operations = 2 * before.weight[0].numel() + len(x)
    rounding = float(gamma(num_operations) * terms / moved) if moved else 0.0
    return Measured(math.sqrt(float(moved / then.square().sum())), max(1e-12, rounding))


CASES = {
    "plain": {},
    "bounded": {"scaling": "bounded", "eps1": 0.3},
    "hard": {"scaling": "hard", "eps1": 0.3},
    "conceptor": {"scaling": "conceptor", "eps1": 0.3},
    "pool": {"budget_over": "pool"},
    "every-third-step": {"budget_steps": 3},
    "bias": {"net": {"biases": True, "bias": "augmented"}},
    "sam-decay": {"train": {"sam": {"tasks": "all"}, "weight_decay": 1e-3}},
    "adam": {"train": {"optimizer": "adam", "lr": 0.05}},
    "adam-bounded": {"train": {"optimizer": "adam", "lr": 0.05}, "scaling": "bounded", "eps1": 0.3},
    "groups": {"grouped": True},
    "groups-adam-bounded": {
        "grouped": True,
        "train": {"optimizer": "adam", "lr": 0.05},
        "scaling": "bounded",
        "eps1": 0.3,
    },
    "with-clip": {"max_output_change": 1.0, "scaling": "bounded", "eps1": 0.3},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_update_changes_old_outputs_by_more_than_its_budget(case):
    method, measured = _trained(**case)
    over = case.get("budget_over", "task")
    for earlier, update in enumerate(measured, start=1):
        limit = 0.1 / math.sqrt(earlier if over == "task" else 1)
        for name, (rho, _) in update.items():
            assert rho <= limit * (1 + 1e-6), name
    # The limit binds: training would have gone on without it.
    if "max_output_change" not in case and case.get("scaling") != "hard":
        assert max(own.rho for own in measured[0].values()) > 0.0999
    for name, found in method.measured()["output_change"].items():
        assert found["rho"] == pytest.approx(
            measured[-1][name].rho, rel=measured[-1][name].rounding
        )


def test_clipping_gives_no_group_what_its_budget_forbids():
    # Inputs of the first group lie along the first direction, those of the second along the next.
    c = torch.stack([torch.eye(8)[i].double().diag() for i in range(2)])
    basis = open_basis(spectrum(c.sum(dim=0), layer="conv2"), keep_open=True)
    directions = directions_of(basis, c, torch.device("cpu"))
    budget = LayerBudget.of(0.0, directions, c, torch.randn(6, 8), 1)
    limits = LayerLimits(basis, budget, norm=1 / basis.tau)
    change = torch.zeros(6, 8)
    change[0, 1:3] = change[3, 0] = change[3, 2] = 2.0  # allowed, and not orthogonal
    v = basis.coefficients(change)
    kept = limits.within(v)
    assert spectral_norm(v) > spectral_norm(kept) > 0.9
    assert spectral_norm(kept) <= 1
    assert budget.rho(basis.recompose(budget.previous, kept)) < 1e-6


def test_a_budget_of_zero_keeps_to_the_null_space():
    _, measured = _trained(budget=0.0)
    assert max(own.rho for update in measured for own in update.values()) < 1e-6


def test_a_large_budget_changes_no_bit(monkeypatch):
    monkeypatch.setattr(Ness, "needs_open", True)  # with a budget the open side is stored
    free, _ = _trained(scaling="bounded", eps1=0.3, budget=None)
    wide, _ = _trained(scaling="bounded", eps1=0.3, budget=1e6)
    for name, view in free.layers.items():
        assert torch.equal(view.matrix(), wide.layers[name].matrix())


def test_a_layer_may_have_a_budget_of_its_own():
    _, measured = _trained(layer_budget={"fc1": 0.01})
    assert measured[0]["fc1"].rho <= 0.01 * (1 + 1e-6) < 0.0999 < measured[0]["fc2"].rho


def test_an_anchor_holds_back_along_protected_directions_only():
    # At lr a = 1 - momentum the pull closes what is left of a step at once.
    _, loose = _trained(tasks=2, budget=None, scaling="bounded", eps1=0.05)
    _, tight = _trained(tasks=2, budget=None, scaling="bounded", eps1=0.05, anchor=0.5)
    assert all(tight[0][name].rho < loose[0][name].rho for name in loose[0])
    # The hard cut slows nothing inside its basis, so there is nothing to hold back but rounding.
    hard, _ = _trained(tasks=2, budget=None, scaling="hard", eps1=0.05)
    same, _ = _trained(tasks=2, budget=None, scaling="hard", eps1=0.05, anchor=0.5)
    for name, view in hard.layers.items():
        off = torch.linalg.vector_norm(view.matrix() - same.layers[name].matrix())
        assert off <= 1e-4 * torch.linalg.vector_norm(view.matrix())


@pytest.mark.parametrize("option", [{"budget_steps": 3}, {"layer_budget": {"fc1": 0.1}}])
def test_options_of_a_budget_that_there_is_none_of_are_refused(option):
    make_settings(methods={"ness": {"budget": 0.1, **option}})
    with pytest.raises(SettingsError, match=rf"methods\.ness\.{next(iter(option))}: needs"):
        make_settings(methods={"ness": option})


def test_without_filter_and_budget_every_report_says_that_nothing_is_protected():
    def notes(**options):
        return make_settings(methods={"ness": options}).notes

    assert notes(scaling="none") == ["scaling=none without a budget protects nothing"]
    assert notes(scaling="none", budget=0.1) == []


@pytest.mark.parametrize("form", ["projected", "factored"])
@pytest.mark.parametrize("over", ["task", "pool"])
def test_auto_gives_a_share_of_what_is_left_and_keeps_what_validation_needs(form, over):
    settings = make_settings(
        train={"lr": 0.2, "momentum": 0.9},
        methods={"ness": {"scaling": "none", "budget": "auto", "budget_over": over, "form": form}},
    )
    method = make_method(settings)
    spent = dict.fromkeys(method.layers, 0.0)
    for task_number in range(1, 5):
        task = make_task(task_number)
        add_task(method, task_number)
        method.begin_task(task)
        stepper = Stepper(method, task)
        for step in range(STEPS):
            stepper.step(task.train, torch.arange(8), StepProgress(0, step, STEPS, 1))
        method.after_epoch(task)
        method.end_task(task)
        changes = method.measured().get("output_change", {})
        assert set(changes) == (set(method.layers) if task_number > 1 else set())
        shares = {own["budget"] / allowance(spent[name]) for name, own in changes.items()}
        assert all(share == pytest.approx(min(shares)) for share in shares)
        assert all(min(abs(share - f) for f in (*FRACTIONS, 1.0)) < 1e-12 for share in shares)
        for name, own in changes.items():
            tasks = task_number - 1 if over == "task" else 1
            assert own["rho"] <= own["budget"] / math.sqrt(tasks) * (1 + 1e-9)
            spent[name] += tasks * own["rho"] ** 2
        stored = method.outputs("train")["spent"]
        assert {name: float(value) for name, value in stored.items()} == pytest.approx(spent)
        method.consolidate(task, lambda _: None)


def test_auto_uses_all_of_its_budget_without_validation_images():
    method = make_method(make_settings(methods={"ness": {"scaling": "none", "budget": "auto"}}))
    for task_number in (1, 2):
        task = replace(make_task(task_number), valid=None)
        add_task(method, task_number)
        method.begin_task(task)
        method.end_task(task)
        method.consolidate(task, lambda _: None)
    budgets = [own["budget"] for own in method.measured()["output_change"].values()]
    assert budgets == [allowance(0.0)] * len(method.layers)


def test_auto_leaves_no_layer_a_budget_of_its_own():
    with pytest.raises(SettingsError, match="layer_budget: budget=auto chooses"):
        make_settings(methods={"ness": {"budget": "auto", "layer_budget": {"fc1": 0.1}}})
