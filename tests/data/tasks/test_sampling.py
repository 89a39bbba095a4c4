"""Shares of images: how many, and which."""

from __future__ import annotations

import pytest
import torch

from ness_cli.data.tasks.sampling import split_off, valid_count


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("counts", [(2, 2, 2), (1, 1, 8), (1, 1, 1), (7,), (2, 30, 5, 1)])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.34, 0.5, 0.99])
def test_no_class_is_taken_out_of_training(counts, fraction):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    number = valid_count(len(labels), len(counts), fraction)
    for seed in range(50):
        aside, rest = split_off(labels, number, _generator(seed))
        assert len(aside) == number
        assert sorted([*aside.tolist(), *rest.tolist()]) == list(range(len(labels)))
        assert set(labels[rest].tolist()) == set(range(len(counts)))


def test_a_split_that_loses_no_class_is_that_of_the_permutation():
    labels, changed = torch.arange(5).repeat(2), 0
    for seed in range(200):
        order = torch.randperm(10, generator=_generator(seed))
        aside, rest = split_off(labels, 3, _generator(seed))
        if set(labels[order[3:]].tolist()) == set(range(5)):
            assert torch.equal(torch.cat([aside, rest]), order)
        else:
            changed += 1
            # As few images as can be have changed sides: one for each class that was lost.
            lost = 5 - len(set(labels[order[3:]].tolist()))
            assert len(set(aside.tolist()) - set(order[:3].tolist())) == lost
    assert changed > 0


@pytest.mark.parametrize(
    ("num", "classes", "fraction", "expected"),
    [(100, 10, 0.29, 29), (4, 2, 0.9, 2), (10, 10, 0.5, 0), (1000, 10, 0.1, 100), (1, 1, 0.9, 0)],
)
def test_validation_leaves_an_image_of_every_class(num, classes, fraction, expected):
    assert valid_count(num, classes, fraction) == expected
