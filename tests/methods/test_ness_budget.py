"""The budget of NESS: what it promises is what is measured on the very inputs."""

from __future__ import annotations

import math

import pytest
import torch
from factory import add_task, make_method, make_settings, make_task

from ness_cli.engine.stepper import Stepper
from ness_cli.methods.ness import Ness
from ness_cli.methods.step import StepProgress
from ness_cli.subspace.watch import watching

STEPS = 30


def _trained(tasks=3, *, net=None, train=None, **ness):
    """Train some tasks; return the method and, per update, rho measured on all earlier inputs."""
    options = {"scaling": "none", "budget": 0.1, **ness}
    settings = make_settings(
        net=net or {},
        train={"lr": 0.2, "momentum": 0.9, **(train or {})},
        methods={"ness": options},
    )
    method = make_method(settings)
    inputs: dict[str, list[torch.Tensor]] = {}
    measured = []
    for number in range(1, tasks + 1):
        task = make_task(number)
        add_task(method, number)
        before = {name: view.matrix().clone() for name, view in method.layers.items()}
        method.begin_task(task)
        stepper = Stepper(method, task)
        for step in range(STEPS):
            stepper.step(task.train, torch.arange(8), StepProgress(0, step, STEPS, 1))
        method.after_epoch(task)
        method.end_task(task)
        if number > 1:
            measured.append(
                {
                    name: _rho(before[name], view.matrix(), inputs[name])
                    for name, view in method.layers.items()
                }
            )
        method.consolidate(task, lambda _: None)
        views = method.layers

        def see(name, x, views=views):
            inputs.setdefault(name, []).append(views[name].rows(x).double())

        with watching(views, see), method.task_view(number) as model, torch.no_grad():
            model(task.train.batch(slice(0, len(task.train))).x)
    return method, measured


def _rho(before, after, rows):
    """Return the rms relative change of outputs, measured."""
    x = torch.cat(rows)
    change = x @ (after.double() - before.double()).T
    return math.sqrt(float(change.square().sum() / (x @ before.double().T).square().sum()))


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
    "with-clip": {"max_output_change": 1.0, "scaling": "bounded", "eps1": 0.3},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_update_changes_old_outputs_by_more_than_its_budget(case):
    method, measured = _trained(**case)
    over = case.get("budget_over", "task")
    for earlier, update in enumerate(measured, start=1):
        limit = 0.1 / math.sqrt(earlier if over == "task" else 1)
        for name, rho in update.items():
            assert rho <= limit * (1 + 1e-6), name
    # The limit binds: training would have gone on without it.
    if "max_output_change" not in case and case.get("scaling") != "hard":
        assert max(measured[0].values()) > 0.0999
    for name, found in method.measured()["output_change"].items():
        assert found["rho"] == pytest.approx(measured[-1][name], rel=1e-9)


def test_a_budget_of_zero_keeps_to_the_null_space():
    _, measured = _trained(budget=0.0)
    assert max(rho for update in measured for rho in update.values()) < 1e-6


def test_a_large_budget_changes_no_bit(monkeypatch):
    monkeypatch.setattr(Ness, "needs_open", True)  # with a budget the open side is stored
    free, _ = _trained(scaling="bounded", eps1=0.3, budget=None)
    wide, _ = _trained(scaling="bounded", eps1=0.3, budget=1e6)
    for name, view in free.layers.items():
        assert torch.equal(view.matrix(), wide.layers[name].matrix())


def test_a_layer_may_have_a_budget_of_its_own():
    _, measured = _trained(layer_budget={"fc1": 0.01})
    assert measured[0]["fc1"] <= 0.01 * (1 + 1e-6) < 0.0999 < measured[0]["fc2"]


def test_an_anchor_holds_back_along_protected_directions_only():
    # At lr a = 1 - momentum the pull closes what is left of a step at once.
    _, loose = _trained(tasks=2, budget=None, scaling="bounded", eps1=0.05)
    _, tight = _trained(tasks=2, budget=None, scaling="bounded", eps1=0.05, anchor=0.5)
    assert all(tight[0][name] < loose[0][name] for name in loose[0])
    # The hard cut slows nothing inside its basis, so there is nothing to hold back but rounding.
    hard, _ = _trained(tasks=2, budget=None, scaling="hard", eps1=0.05)
    same, _ = _trained(tasks=2, budget=None, scaling="hard", eps1=0.05, anchor=0.5)
    for name, view in hard.layers.items():
        off = torch.linalg.vector_norm(view.matrix() - same.layers[name].matrix())
        assert off <= 1e-4 * torch.linalg.vector_norm(view.matrix())
