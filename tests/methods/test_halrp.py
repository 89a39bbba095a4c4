from __future__ import annotations

import pytest
import torch
from factory import add_task, make_method, make_settings, make_steps, make_task
from torch.func import functional_call, grad
from torch.nn import functional

from ness_cli.engine.score import record_statistics
from ness_cli.methods.step import StepProgress
from ness_cli.settings.methods.halrp import Options
from ness_cli.settings.resolve import build
from ness_cli.settings.sections import TrainSettings
from ness_cli.subspace.low_rank_perturbation import ranks_of, rescaled

NET = {"hidden": [12, 10], "biases": True, "batch_norm": True}


def _method(net=None, train=None, affine="per-task", **options):
    settings = make_settings(
        method={"name": "halrp"},
        net={**NET, **(net or {})},
        norm={"affine": affine},
        train={"optimizer": "adam", "lr": 0.01, "epochs": 4, **(train or {})},
        methods={"halrp": options},
    )
    method = make_method(settings)
    add_task(method, 1)
    return method


def _phase(method, task, phase, steps=3):
    method.begin_phase(task, phase)
    for _ in make_steps(method, task, steps, size=min(8, len(task.train) - steps)):
        pass


def _learn(method, task, steps=3):
    method.begin_task(task)
    for phase in method.phases(task):
        _phase(method, task, phase, steps)
    method.end_task(task)
    record_statistics(method, [task.train])
    add_task(method, task.number + 1)


def _outputs(method, number):
    with method.task_view(number) as model:
        return model(make_task(number).train.batch(slice(0, 6)).x)


def test_no_task_changes_another_one_unless_it_is_pruned():
    for budget, is_same in ((None, True), (0.3, False)):
        method = _method(budget=budget)
        _learn(method, make_task(1))
        state = method.model.backbone.state_dict().items()
        weights = {n: p.clone() for n, p in state if n.startswith("fc") or n.endswith(".1")}
        first = _outputs(method, 1)
        _learn(method, make_task(2))
        second = _outputs(method, 2)
        _learn(method, make_task(3))
        assert torch.equal(_outputs(method, 1), first)
        assert torch.equal(_outputs(method, 2), second) == is_same
        for name, before in weights.items():
            assert torch.equal(method.model.backbone.state_dict()[name], before), name


def test_every_later_task_starts_from_the_first_one_whatever_came_between():
    method = _method(budget=None)
    for number in (1, 2):
        _learn(method, make_task(number))
    method.begin_task(make_task(3))
    for norm in method.model.norms():
        assert not torch.equal(norm.scale["2"], norm.scale["1"])
        assert torch.equal(norm.scale["3"], norm.scale["1"])
        assert torch.equal(norm.shift["3"], norm.shift["1"])


def test_convolutions_are_left_as_they_were_too():
    net, shape = {"name": "resnet18", "width": 3}, (1, 16, 16)
    raw = {"method": {"name": "halrp"}, "net": net, "norm": {"affine": "per-task"}}
    method = make_method(build({**raw, "train": {"epochs": 2, "optimizer": "adam"}}), shape)
    add_task(method, 1)
    first = make_task(1, shape=shape)
    _learn(method, first, steps=1)
    x = first.train.batch(slice(0, 4)).x
    with method.task_view(1) as model:
        before = model(x)
    _learn(method, make_task(2, shape=shape), steps=2)
    assert set(method._pieces[2]) == set(method.layers)
    with method.task_view(2) as model:
        assert not torch.equal(model(x), before)
    with method.task_view(1) as model:
        assert torch.equal(model(x), before)


def test_a_task_computes_with_the_base_rescaled_and_its_low_rank_added():
    method = _method(budget=None)
    for number in (1, 2):
        _learn(method, make_task(number))
    pieces, backbone = method.outputs("train")["pieces"], method.model.backbone
    x = make_task(2).train.batch(slice(0, 6)).x.flatten(1).double()
    for index in (1, 2):
        own = {k: pieces[f"fc{index}.{k}"].double() for k in ("R", "S", "P", "Q", "bias")}
        base = getattr(backbone, f"fc{index}").weight.detach().double()
        w = torch.diag(own["R"]) @ base @ torch.diag(own["S"]) + own["P"] @ own["Q"]
        norm = getattr(backbone, f"norm{index}")
        mean, variance = (value.double() for value in norm.statistics_of(2))
        x = functional.batch_norm(
            functional.linear(x, w, own["bias"]),
            mean,
            variance,
            norm.scale["2"].double(),
            norm.shift["2"].double(),
        ).relu()
    expected = x @ method.model.head(2).weight.double().T
    torch.testing.assert_close(_outputs(method, 2).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("has_validation", [True, False])
def test_ranks_follow_from_what_leaving_directions_out_costs(has_validation):
    method = _method(train={"batch_size": 10}, importance=0.6)
    _learn(method, make_task(1))
    task = make_task(2)
    if not has_validation:
        task = type(task)(2, task.num_classes, task.train, valid=None)
    images = task.valid if has_validation else task.train
    method.begin_task(task)
    probe, train = method.phases(task)
    _phase(method, task, probe)
    model = method.model.double().eval()
    named = {n: p.detach() for n, p in model.named_parameters()}

    def loss(weights, x, y):
        return functional.cross_entropy(functional_call(model, {**named, **weights}, (x,)), y)

    keys = {name: f"backbone.{name}.weight" for name in method.layers}
    importances = dict.fromkeys(keys, 0.0)
    slices = images.batch_slices(10, 1)
    for where in slices:
        batch = images.batch(where)
        found = grad(loss)({k: named[k] for k in keys.values()}, batch.x.double(), batch.y)
        for name, key in keys.items():
            importances[name] += len(batch) * float(found[key].square().mean()) / len(slices)
    costs = {}
    for name, key in keys.items():
        of = rescaled(named[key], method._base[method.layers[name].weight])
        costs[name] = of.sigma.square() * importances[name]
    model.float()
    method.begin_phase(task, train)
    expected = {name: max(1, rank) for name, rank in ranks_of(costs, 0.6).items()}
    assert method._ranks == expected
    for name, own in method._perturbations.items():
        assert own.P.shape[1] == own.Q.shape[0] == expected[name]


def test_the_pieces_start_where_the_probe_ended_when_no_direction_is_left_out():
    method = _method({"biases": False, "batch_norm": False}, rank_rule="flat")
    _learn(method, make_task(1))
    task = make_task(2)
    method.begin_task(task)
    probe, train = method.phases(task)
    _phase(method, task, probe)
    free = {name: layer.weight.detach().clone() for name, layer in method.layers.items()}
    method.begin_phase(task, train)
    for name, layer in method.layers.items():
        torch.testing.assert_close(layer.module.weight, free[name], rtol=0, atol=1e-5)
        assert torch.equal(layer.weight, method._base[layer.weight])
    assert not any(name.endswith("original") for name in method.trainable())


@pytest.mark.parametrize(("goal", "number"), [("zero", 0.0), ("one", 1.0)])
def test_penalties_are_those_of_the_phase(goal, number):
    method = _method(decay=0.3, sparsity=0.2, scales_decay_to=goal)
    task, progress = make_task(1), StepProgress(0, 0, 1, 1)
    method.begin_task(task)
    weights = [layer.weight.detach().double() for layer in method.layers.values()]
    expected = 0.15 * sum(w.square().sum() for w in weights)
    assert method.penalty(progress).item() == pytest.approx(expected.item(), rel=1e-5)
    _learn(method, task)
    task = make_task(2)
    method.begin_task(task)
    probe, train = method.phases(task)
    _phase(method, task, probe)
    assert method.penalty(progress) is None
    _phase(method, task, train)
    total = 0.0
    for own in method._perturbations.values():
        r, s, p, q = (getattr(own, kind).detach().double() for kind in "RSPQ")
        total += 0.2 * (p.abs().sum() + q.abs().sum())
        total += 0.15 * ((r - number).square().sum() + (s - number).square().sum())
        total += 0.15 * (p.square().sum() + q.square().sum())
    assert method.penalty(None).item() == pytest.approx(total.item(), rel=1e-5)
    assert _method(decay=0.0).penalty(None) is None


def _sizes(method):
    """Count by hand: the network of task 1, and what every later task has of its own."""
    first = 16 * 12 + 12 + 12 * 10 + 10 + 10 * 3 + 2 * (12 + 10) + 2 * (12 + 10)
    added = {}
    for number, layers in method._pieces.items():
        if number > 1:
            pieces = sum(v.numel() for own in layers.values() for v in own.values())
            added[number] = pieces + 10 * 3 + 2 * (12 + 10) + 2 * (12 + 10)
    return first, added


def test_every_task_is_pruned_by_the_same_fraction_once_the_budget_is_spent():
    method = _method(budget=0.9, rank_rule="flat", max_rank=3, prune_below=0.0)
    _learn(method, make_task(1))
    _learn(method, make_task(2))
    for number in (3, 4):
        first, added = _sizes(method)
        increment = sum(added.values()) / first
        assert method.increment() == pytest.approx(increment)
        fraction = 1 - 0.9 / increment if increment >= 0.9 else None
        assert (fraction is None) == (method._pruned_fraction is None)
        if fraction is not None:
            assert method._pruned_fraction == pytest.approx(fraction)
        for task in added if fraction is not None else ():
            layers = method._pieces[task]
            entries = torch.cat([own[k].flatten().abs() for own in layers.values() for k in "PQ"])
            limit = torch.quantile(entries.double(), fraction)
            for name, own in layers.items():
                kept = method._pruned(task)[name]
                for kind in "PQ":
                    expected = torch.where(own[kind].abs().double() <= limit, 0, own[kind])
                    assert torch.equal(kept[kind], expected)
                assert torch.equal(kept["R"], own["R"])
        _learn(method, make_task(number))
    assert method._pruned_fraction > 0
    assert method.increment(is_pruned=True) < method.increment()


def test_a_task_of_one_class_is_learned_with_one_direction_in_every_layer():
    method = _method(budget=None)
    _learn(method, make_task(1))
    method.model.heads["2"] = torch.nn.Linear(method.model.num_features, 1, bias=False)
    task = make_task(2)
    task.train.labels.zero_()
    task.valid.labels.zero_()
    _learn(method, task)
    # Its loss is zero whatever it computes, so that no direction costs anything.
    assert method._ranks == {"fc1": 1, "fc2": 1}
    shapes = {name: tuple(v.shape) for name, v in method.outputs("train")["pieces"].items()}
    assert shapes["fc1.P"] == (12, 1)
    assert shapes["fc2.Q"] == (1, 12)


def test_budgets_count_factors_whole_and_what_is_stored_without_zeros():
    method = _method(budget=None)
    _learn(method, make_task(1))
    _learn(method, make_task(2))
    own = method._pieces[2]["fc1"]
    own["P"][0], own["P"][1] = 0, 1  # as of a unit that no image needs
    first, added = _sizes(method)
    assert method.increment() == pytest.approx(added[2] / first)
    zeros = sum(int((each[k] == 0).sum()) for each in method._pieces[2].values() for k in "PQ")
    assert method.increment(is_pruned=True) == pytest.approx((added[2] - zeros) / first)


def test_entries_up_to_a_size_go_only_where_anything_is_pruned():
    for budget, is_pruned in ((100.0, False), (0.01, True)):
        method = _method(budget=budget, prune_below=1e3)
        _learn(method, make_task(1))
        _learn(method, make_task(2))
        kept = method._pruned(2)["fc1"]
        assert bool((kept["P"] == 0).all()) == is_pruned


def test_a_task_of_one_image_and_one_class_is_no_error():
    method = _method({"batch_norm": False})
    _learn(method, make_task(1, n=2), steps=1)
    _learn(method, make_task(2, n=2), steps=1)
    assert all(torch.isfinite(v).all() for v in method.outputs("train")["pieces"].values())


def test_what_it_cannot_train_with_is_refused_and_sgd_is_replaced():
    options = Options(probe_epochs=3)
    assert options.problems(TrainSettings(epochs=4)) == ()
    (problem,) = options.problems(TrainSettings(epochs=3))
    assert "probe_epochs: 3 of 3 epochs leave none" in problem
    (problem,) = options.problems(TrainSettings(head_epochs=1))
    assert problem.startswith("train.head_epochs")
    assert options.adjustments(TrainSettings()) == {"optimizer": "adam", "lr": 1e-3}
    assert options.adjustments(TrainSettings(optimizer="adam")) == {}
    # What decays is in the loss; scales must not decay twice.
    decaying = TrainSettings(optimizer="adam", weight_decay=1e-4)
    assert options.adjustments(decaying) == {"weight_decay": 0.0}
