"""Scores with batch statistics do not depend on what is left over by the batch size."""

from __future__ import annotations

import pytest
import torch
from factory import add_task, make_images, make_method, make_settings

from ness_cli.engine.score import logits, record_statistics


def _method(statistics):
    settings = make_settings(net={"batch_norm": True}, norm={"statistics": statistics})
    method = make_method(settings)
    add_task(method, 1)
    return method


def _sizes_of_batches(method, pass_images):
    sizes = []
    handle = method.model.backbone.norm1.register_forward_pre_hook(
        lambda _module, args: sizes.append(len(args[0]))
    )
    pass_images()
    handle.remove()
    return sizes


@pytest.mark.parametrize(
    ("statistics", "recorded", "sizes"),
    [("batch", False, [16, 9, 8]), ("task", False, [16, 9, 8]), ("task", True, [16, 16, 1])],
)
def test_a_remainder_of_one_is_not_normalised_by_itself(statistics, recorded, sizes):
    method, images = _method(statistics), make_images(1, 33)
    if recorded:
        record_statistics(method, [images])
    found = []

    def pass_images():
        with method.task_view(1) as model:
            found.append(logits(model, images, 16, lambda _: None))

    assert _sizes_of_batches(method, pass_images) == sizes
    assert found[0].shape == (33, 3)
    # The last image would be nothing but the shift: all such images would look the same.
    assert not torch.equal(found[0][-1], found[0][-2])


def test_statistics_are_not_recorded_from_a_batch_of_one(monkeypatch):
    monkeypatch.setattr("ness_cli.engine.score.STATISTICS_BATCH", 16)
    method, images = _method("task"), make_images(1, 33)
    sizes = _sizes_of_batches(method, lambda: record_statistics(method, [images]))
    assert sizes == [16, 9, 8]


def test_what_is_summed_over_batches_is_cut_alike():
    method, images = _method("batch"), make_images(1, 33)
    sizes = _sizes_of_batches(method, lambda: method.forward_images([images], lambda _: None))
    assert sizes == [16, 9, 8]
    assert [piece.stop - piece.start for piece in method.batch_slices(images)] == sizes
