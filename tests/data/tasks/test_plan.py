"""Cutting a data set into tasks: permutations, rotations, orders, limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ness_cli.console import Progress
from ness_cli.data.dataset import ArrayDataset
from ness_cli.data.store import prepare
from ness_cli.data.task_stream import TaskStream
from ness_cli.data.tasks.permutations_and_rotations import permuted, rotated
from ness_cli.data.tasks.plan import plan_tasks, read_tasks, task_changes
from ness_cli.errors import InputError, SettingsError
from ness_cli.settings.sources.base import DatasetSettings
from ness_cli.settings.sources.digits import Options as Digits


def _options(**more) -> DatasetSettings:
    return DatasetSettings.model_validate({"source": "test", "classes_per_task": 2, **more})


def _dataset(options, counts=(5, 4, 3, 6), shape=(3, 4, 6)) -> ArrayDataset:
    def split(scale):
        labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts) * scale)
        return torch.randint(0, 256, (len(labels), *shape), dtype=torch.uint8), labels

    names = [f"c{k}" for k in range(len(counts))]
    return ArrayDataset("test", names, split(2), split(1), options)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_quarter_turns_are_exact(quarter):
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(rotated(images, 90 * quarter), torch.rot90(images, quarter, (2, 3)))


def test_half_a_turn_is_exact_for_images_that_are_not_square():
    images = torch.randint(0, 256, (5, 1, 6, 9), dtype=torch.uint8)
    assert torch.equal(rotated(images, 180), images.flip(2, 3))


@pytest.mark.parametrize("shape", [(28, 28), (20, 30)])
def test_a_rotation_is_the_one_that_pillow_makes(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    smooth = (127 + 100 * np.sin(x / 5) * np.cos(y / 7)).astype(np.uint8)
    ours = rotated(torch.from_numpy(smooth)[None, None], 30)[0, 0].numpy().astype(int)
    theirs = Image.fromarray(smooth).rotate(30, Image.Resampling.BILINEAR)
    inside = np.zeros(shape, bool)
    inside[6:-6, 6:-6] = True
    difference = np.abs(ours - np.asarray(theirs).astype(int))[inside]
    assert difference.max() <= 3


@pytest.mark.parametrize(
    "more",
    [
        {"protocol": "permuted", "num_tasks": 3, "task_order": [3, 1, 2]},
        {"protocol": "rotated", "num_tasks": 3, "layout": "scrambled"},
        {"layout": "scrambled"},
    ],
)
def test_what_a_task_does_to_its_images_is_known_without_them(more):
    shared = "protocol" in more
    options = DatasetSettings.model_validate(
        {"source": "test", **more, **({} if shared else {"classes_per_task": 2})}
    )
    dataset = _dataset(options)
    plans = plan_tasks(dataset, options)
    found = list(read_tasks(dataset, plans, lambda _: None))
    changes = task_changes(dataset.image_shape, len(plans), options)
    for plan, splits, change in zip(plans, found, changes, strict=True):
        raw = dataset.images("train", torch.cat(plan.positions("train")), lambda _: None)
        assert torch.equal(change(raw), splits["train"][0])


def test_a_task_of_classes_leaves_its_images_alone():
    assert task_changes((3, 4, 6), 2, _options()) == (None, None)


def test_rotating_in_chunks_changes_nothing():
    images = torch.randint(0, 256, (7, 1, 6, 6), dtype=torch.uint8)
    assert torch.equal(rotated(images, 33.0, chunk=2), rotated(images, 33.0))


def test_channels_are_permuted_together():
    images = torch.arange(2 * 3 * 4).reshape(2, 3, 2, 2).to(torch.uint8)
    order = torch.tensor([2, 0, 3, 1])
    found = permuted(images, order)
    for image in range(2):
        for channel in range(3):
            flat = images[image, channel].flatten()
            assert torch.equal(found[image, channel].flatten(), flat[order])


@pytest.mark.parametrize("protocol", ["permuted", "rotated"])
def test_tasks_that_share_labels_show_the_same_images(protocol):
    options = _options(protocol=protocol, num_tasks=3)
    dataset = _dataset(options, shape=(3, 4, 4))
    reads = []
    plans = plan_tasks(dataset, options)
    tasks = [splits["train"] for splits in read_tasks(dataset, plans, reads.append)]
    assert len(tasks) == 3
    assert sum(reads) == 18 * 3  # each image once, whatever the number of tasks
    for images, labels in tasks[1:]:
        assert torch.equal(labels, tasks[0][1])
        assert not torch.equal(images, tasks[0][0])
    assert {plan.classes for plan in plans} == {("c0", "c1", "c2", "c3")}


def test_permuted_tasks_may_leave_classes_out():
    options = _options(protocol="permuted", class_order=["c3", "c1"])
    plans = plan_tasks(_dataset(options), options)
    assert len(plans) == 10
    assert {plan.classes for plan in plans} == {("c3", "c1")}
    assert {sum(plan.counts("train")) for plan in plans} == {2 * (6 + 4)}


def test_rotated_digits_start_upright_and_share_their_labels(tmp_path):
    options = Digits(protocol="rotated", num_tasks=4, max_angle=360)
    stream = TaskStream(prepare(options, tmp_path, Progress()), tmp_path)
    assert [stream.info(t).name for t in range(1, 5)] == [f"rotation-{90 * t}" for t in range(4)]
    assert stream.shared_labels
    upright, turned = stream.split(1, "test").images, stream.split(2, "test").images
    assert torch.equal(torch.rot90(upright, 1, (2, 3)), turned)


def test_limits_hold_for_training_images_only():
    options = _options(limit_per_class=3)
    plans = plan_tasks(_dataset(options), options)
    assert [sum(plan.counts("train")) for plan in plans] == [6, 6]
    assert [sum(plan.counts("test")) for plan in plans] == [9, 9]


def test_tasks_in_another_order():
    options = _options(task_order=[2, 1])
    assert [p.classes for p in plan_tasks(_dataset(options), options)] == [
        ("c2", "c3"),
        ("c0", "c1"),
    ]
    options = _options(task_order=[2])
    (second,) = plan_tasks(_dataset(options), options)
    assert (second.classes, second.name) == (("c2", "c3"), "classes-3-4")
    for order in ([1, 1], [1, 3], [1, 2, 3]):
        options = _options(task_order=order)
        with pytest.raises(SettingsError, match=r"data\.task_order"):
            plan_tasks(_dataset(options), options)


def test_uneven_tasks_and_orders_by_name():
    options = _options(classes_per_task=[1, 3], class_order=["c3", "c0", "c1", "c2"])
    plans = plan_tasks(_dataset(options), options)
    assert [p.classes for p in plans] == [("c3",), ("c0", "c1", "c2")]
    assert sum(plans[0].counts("train")) == 12


def test_orders_follow_the_seed_and_numpys_generator():
    def order(**more):
        options = _options(classes_per_task=1, **more)
        return [p.classes[0] for p in plan_tasks(_dataset(options, (1,) * 20), options)]

    seeded = [order(class_order="seeded", split_seed=s) for s in (0, 0, 1)]
    assert seeded[0] == seeded[1] != seeded[2]
    expected = np.random.RandomState(7).permutation(20)
    assert order(class_order="numpy-seeded", split_seed=7) == [f"c{k}" for k in expected]


@pytest.mark.parametrize(
    ("counts", "words"), [((3, 0, 3), "'c1' has no images"), ((0, 0), "c0.*and 1 more")]
)
def test_classes_without_images_are_refused(counts, words):
    options = _options(classes_per_task=1)
    with pytest.raises(InputError, match=words):
        plan_tasks(_dataset(options, counts), options)


def test_a_class_of_one_image_cannot_be_tested():
    options = _options(test_fraction=0.5)
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    dataset = ArrayDataset("x", ["a", "b"], (images, torch.tensor([0, 0, 1])), None, options)
    with pytest.raises(InputError, match="'b' has 1 image"):
        plan_tasks(dataset, options)


def test_the_whole_of_a_class_is_never_set_aside():
    options = _options(test_fraction=0.99)
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    dataset = ArrayDataset("x", ["a", "b"], (images, torch.tensor([0, 0, 1, 1])), None, options)
    (plan,) = plan_tasks(dataset, options)
    assert (sum(plan.counts("train")), sum(plan.counts("test"))) == (2, 2)


def test_images_larger_than_the_size_cannot_be_padded_to_it():
    options = _options(size=3, fit="pad")
    dataset = _dataset(options)
    with pytest.raises(InputError, match="too large to be padded"):
        dataset.images("train", torch.tensor([0]), lambda _: None)
