"""Random changes of training images."""

from __future__ import annotations

import pytest
import torch

from ness_cli.data.augment import Augment
from ness_cli.errors import SettingsError

SHAPE = (3, 6, 6)


def _images(n=64):
    return torch.randint(0, 256, (n, *SHAPE), dtype=torch.uint8)


def test_every_image_draws_for_itself():
    images = _images()
    changed = Augment(["RandomHorizontalFlip"], SHAPE)(images)
    flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(changed, images, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(changed, images, strict=True)]
    assert all(a or b for a, b in zip(flipped, kept, strict=True))
    assert 15 < sum(flipped) < 49


def test_the_same_generator_gives_the_same_images():
    augment = Augment([{"RandomCrop": {"size": 6, "padding": 2}}, "RandomVerticalFlip"], SHAPE)
    images = _images(8)
    torch.manual_seed(3)
    first = augment(images)
    torch.manual_seed(3)
    assert torch.equal(augment(images), first)
    assert not torch.equal(augment(images), first)


def test_trying_the_chain_draws_nothing():
    before = torch.get_rng_state()
    Augment(["RandomHorizontalFlip", "AutoAugment"], SHAPE)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (["RandomHorizontalFlop"], "did you mean 'RandomHorizontalFlip'"),
        ([{"RandomCrop": {"sise": 6}}], "sise"),
        ([{"RandomCrop": {"size": 4}}], r"\[3, 4, 4\]"),
        (["ToDtype"], "ToDtype"),
        ([{"RandomCrop": {"size": 4}, "AutoAugment": {}}], "2 transforms"),
        ([{"ToDtype": {"dtype": 3}}], "train.augment"),
        (["functional"], "no transform 'functional'"),
    ],
)
def test_wrong_steps_are_refused(steps, words):
    with pytest.raises(SettingsError, match=words):
        Augment(steps, SHAPE)
