from __future__ import annotations

import copy

import pytest
import torch

from ness_cli.nets.build import build_model
from ness_cli.nets.multi_head import load_tasks
from ness_cli.settings.resolve import build

CLASSES = [3, 2, 3]
X = torch.linspace(0, 1, 20).reshape(5, 1, 2, 2)


def _model(**net):
    settings = build({"net": {"hidden": [6], "batch_norm": True, **net}})
    torch.manual_seed(0)
    return build_model(settings.net, settings.norm, (1, 2, 2))


@pytest.fixture
def saved():
    """State dict of a model that has made all of its heads itself."""
    model = _model()
    for task_number, count in enumerate(CLASSES, start=1):
        model.add_task(task_number, count)
        model.select(task_number)
        with model.record_statistics():
            model(X + task_number)
    return model.state_dict()


def _loaded(saved):
    model = _model()
    load_tasks(model, saved, CLASSES)
    return model


def _heads(model):
    return [name for name, _ in model.named_parameters() if name.startswith("heads.")]


def test_heads_are_made_when_they_are_asked_for_and_keep_their_order(saved):
    model = _loaded(saved)
    assert _heads(model) == []
    assert model.num_tasks == 3
    random = torch.get_rng_state()
    for task_number in (3, 1, 2):
        model.select(task_number)
        weight = saved[f"heads.{task_number}.weight"]
        assert model.eval()(X).shape == (5, CLASSES[task_number - 1])
        assert torch.equal(model.head(task_number).weight, weight)
        assert not model.head(task_number).training
    assert _heads(model) == [f"heads.{task_number}.weight" for task_number in (1, 2, 3)]
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("asked", [(), (2,), (3, 1, 2)])
def test_a_state_dict_has_all_heads_whichever_were_asked_for(saved, asked):
    model = _loaded(saved)
    for task_number in asked:
        model.head(task_number)
    for each in (model, copy.deepcopy(model)):
        found = each.state_dict()
        assert found.keys() == saved.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in saved.items())
    assert model.num_own == 6 * sum(CLASSES)


def test_training_a_head_leaves_the_tensors_that_it_was_read_from_alone(saved):
    model, before = _loaded(saved), saved["heads.2.weight"].clone()
    with torch.no_grad():
        model.head(2).weight.zero_()
    assert torch.equal(saved["heads.2.weight"], before)
    assert model.state_dict()["heads.2.weight"].abs().sum() == 0


def test_no_head_trains_that_is_asked_for_after_it_was_decided_what_trains(saved):
    model = _loaded(saved)
    assert model.head(1).weight.requires_grad
    model.train_only(model.own_parameters(2))
    assert [p.requires_grad for p in model.heads.parameters()] == [False, True]
    assert not model.head(3).weight.requires_grad


def test_a_head_for_all_tasks_is_a_parameter_from_the_start():
    model = _model(heads="shared")
    for task_number in (1, 2):
        model.add_task(task_number, 3)
    loaded = _model(heads="shared")
    load_tasks(loaded, model.state_dict(), [3, 3])
    assert _heads(loaded) == ["heads.shared.weight"]
    assert loaded.num_own == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda saved: saved.pop("heads.2.weight"), "heads.2.weight is missing"),
        (lambda saved: saved.update({"heads.2.weight": torch.zeros(3, 6)}), r"\[3, 6\], not"),
        (lambda saved: saved.update({"heads.4.weight": torch.zeros(3, 6)}), "heads.4.weight"),
        (lambda saved: saved.pop("backbone.fc1.weight"), "backbone.fc1.weight"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(saved, change, words):
    changed = dict(saved)
    change(changed)
    with pytest.raises(RuntimeError, match=words):
        _loaded(changed)
