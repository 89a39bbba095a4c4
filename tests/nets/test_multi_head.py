from __future__ import annotations

import pytest
import torch

from ness_cli.nets.build import build_model
from ness_cli.settings.resolve import build


def _model(statistics="task"):
    settings = build(
        {"net": {"hidden": [6], "batch_norm": True}, "norm": {"statistics": statistics}}
    )
    model = build_model(settings.net, settings.norm, (1, 2, 2))
    for task_number in (1, 2):
        model.add_task(task_number, 3)
    return model


def test_selecting_the_task_that_is_selected_walks_through_no_modules(monkeypatch):
    model = _model()
    model.select(2)
    monkeypatch.setattr(model.backbone, "modules", lambda: pytest.fail("walked"))
    model.select(2)
    assert model.task == 2


def test_selecting_a_task_selects_its_normalisation():
    model = _model()
    for task_number in (2, 1):
        model.select(task_number)
        assert [norm.task for norm in model.norms()] == [task_number]


def test_passing_statistics_are_those_of_the_batches_and_then_gone():
    model, x = _model().eval(), torch.randn(20, 1, 2, 2)
    model.select(2)
    with model.passing_statistics([x[:12], x[12:]]):
        within = model(x[:1])
        kept = model.norms()[0].statistics_of(2)
    assert model.norms()[0].statistics_of(2) is None
    rows = model.backbone.fc1(x.flatten(1)).double()
    torch.testing.assert_close(kept[0].double(), rows.mean(0))
    torch.testing.assert_close(kept[1].double(), rows.var(0, unbiased=False))
    with model.record_statistics():
        model(x[:12])
        model(x[12:])
    torch.testing.assert_close(model(x[:1]), within, rtol=1e-5, atol=1e-5)


def test_passing_statistics_give_way_to_those_that_were_stored_even_after_an_error():
    model = _model().eval()
    with model.record_statistics():
        model(torch.randn(9, 1, 2, 2))
    before = [value.clone() for value in model.norms()[0].statistics_of(1)]
    with pytest.raises(RuntimeError), model.passing_statistics([torch.randn(5, 1, 2, 2)]):
        raise RuntimeError
    after = model.norms()[0].statistics_of(1)
    assert all(torch.equal(mine, other) for mine, other in zip(before, after, strict=True))


def test_batches_that_normalise_by_themselves_have_no_single_images():
    found = {}
    for statistics in ("task", "batch"):
        model = _model(statistics)
        found[statistics] = [model.smallest_batch(64)]
        with model.record_statistics():
            model(torch.zeros(4, 1, 2, 2))
        found[statistics].append(model.smallest_batch(64))
    assert found == {"task": [2, 1], "batch": [8, 8]}
